"""GBCS messages under any values, any octets and any flipped bit."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gbcs import (
    Alert,
    Command,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    Label,
    Message,
    PreCommand,
    Response,
    SignedPreCommand,
    add_mac,
    parse_untrusted,
    sign_alert,
    sign_pre_command,
    sign_response,
    verify_mac,
    verify_message,
)
from gbcs.errors import BuildError, FormatError, MacInvalid, SignatureInvalid
from gbcs.messages import label_count, layout_of

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
SIGNER = EcdsaSigner(KEY)
Z = bytes(range(32))

printable = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
entity_ids = st.binary(min_size=8, max_size=8).map(EntityId)
counters = st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**24 - 1, 2**24, 2**64 - 1])
signatures = st.binary(min_size=64, max_size=64)
texts = st.text(printable, min_size=1, max_size=22)
labels = st.dictionaries(st.integers(1, 5), texts, min_size=1).map(
    lambda entries: tuple(Label(index, entries[index]) for index in sorted(entries))
)
pre_commands = st.builds(PreCommand, entity_ids, entity_ids, counters, labels)
signed_pre_commands = st.builds(SignedPreCommand, pre_commands, signatures)
commands = st.builds(Command, signed_pre_commands, st.binary(min_size=12, max_size=12))
results = st.lists(st.integers(0, 255), min_size=1, max_size=5).map(tuple)
responses = st.builds(Response, entity_ids, entity_ids, counters, results, st.none() | signatures)
date_times = st.builds(
    GbcsDateTime,
    year=st.none() | st.integers(1, 9999),
    month=st.none() | st.integers(1, 12),
    day=st.none() | st.integers(1, 28),
    weekday=st.none() | st.integers(1, 7),
    hour=st.none() | st.integers(0, 23),
    minute=st.none() | st.integers(0, 59),
    second=st.none() | st.integers(0, 59),
    hundredths=st.none() | st.integers(0, 99),
    deviation_minutes=st.none() | st.integers(-720, 840),
    status=st.none() | st.integers(0, 254),
)


@st.composite
def alerts(draw: st.DrawFn) -> Alert:
    supplementary = (draw(entity_ids), draw(counters), draw(counters))
    given_fields = draw(st.integers(0, 3))
    party, party_counter, originator_counter = (
        *supplementary[:given_fields],
        *(None,) * (3 - given_fields),
    )
    return Alert(
        draw(entity_ids),
        draw(entity_ids),
        draw(counters),
        draw(st.text(printable, max_size=300) | st.integers(0, 1046).map("x".__mul__)),
        draw(date_times),
        party,
        party_counter,
        originator_counter,
        draw(st.integers(0, 0xFFFF)),
        draw(st.none() | signatures),
    )


messages = pre_commands | signed_pre_commands | commands | responses | alerts()


@given(messages)
def test_what_is_built_is_read(message: Message) -> None:
    octets = message.to_bytes()
    assert parse_untrusted(octets) == message
    assert parse_untrusted(octets).to_bytes() == octets


@given(messages)
def test_the_strict_reading_agrees_with_the_fast_one(message: Message) -> None:
    octets = message.to_bytes()
    layout = layout_of(octets)
    strict, fast = layout.read_strictly(octets), layout.read_unchecked(octets)
    assert fast is not None
    for name, value in fast.items():
        assert strict.values[name] == value, name
    # The parts are the message, without a gap.
    assert b"".join(part.octets for part in strict.parts) == octets
    ends = [part.offset + len(part.octets) for part in strict.parts]
    assert [part.offset for part in strict.parts] == [0, *ends[:-1]]


def accept_or_refuse(octets: bytes) -> None:
    """Any octets give a message that is those octets, or a FormatError: nothing else."""
    try:
        message = parse_untrusted(octets)
    except FormatError:
        return
    assert message.to_bytes() == octets
    # Nothing passes the fast reading that the strict one would refuse.
    layout_of(octets).read_strictly(octets)


@given(st.binary(max_size=1300))
def test_any_octets(octets: bytes) -> None:
    accept_or_refuse(octets)


@given(messages, st.data())
def test_octets_near_a_message(message: Message, data: st.DataObject) -> None:
    octets = bytearray(message.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets)))
        end = min(len(octets), at + data.draw(st.integers(0, 4)))
        octets[at:end] = data.draw(st.binary(max_size=4))
    accept_or_refuse(bytes(octets))


@given(messages, st.data())
def test_cut_or_lengthened_messages_are_refused(message: Message, data: st.DataObject) -> None:
    octets = message.to_bytes()
    # A pre-command is what is left of a signed one without its signature.
    cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
    if isinstance(message, SignedPreCommand) and cut == message.pre_command.to_bytes():
        return
    with pytest.raises(FormatError):
        parse_untrusted(cut)
    tail = data.draw(st.binary(min_size=1, max_size=20))
    with pytest.raises(FormatError):
        parse_untrusted(octets + tail)


def verify(message: Message) -> None:
    if isinstance(message, PreCommand):
        raise SignatureInvalid("not signed")
    verify_message(message, KEY.public_key())
    if isinstance(message, Command):
        verify_mac(message, Z)


protected = st.one_of(
    pre_commands.map(lambda message: sign_pre_command(message, SIGNER)),
    pre_commands.map(lambda message: add_mac(sign_pre_command(message, SIGNER), Z)),
    responses.map(lambda message: sign_response(message, SIGNER)),
    alerts().map(lambda message: sign_alert(message, SIGNER)),
)


@given(protected, st.data())
def test_any_flipped_bit_is_found(message: Message, data: st.DataObject) -> None:
    octets = bytearray(message.to_bytes())
    verify(parse_untrusted(bytes(octets)))
    bit = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[bit // 8] ^= 1 << bit % 8
    with pytest.raises((FormatError, SignatureInvalid, MacInvalid)):
        verify(parse_untrusted(bytes(octets)))


def test_every_flipped_bit_of_one_command_is_found() -> None:
    command = add_mac(
        sign_pre_command(
            PreCommand(EntityId(b"supplier"), EntityId(b"a device"), 9, (Label(1, "x" * 22),)),
            SIGNER,
        ),
        Z,
    )
    octets = command.to_bytes()
    for bit in range(len(octets) * 8):
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, SignatureInvalid, MacInvalid)):
            verify(parse_untrusted(bytes(flipped)))


@given(pre_commands)
def test_another_shared_secret_or_key_is_found(pre_command: PreCommand) -> None:
    command = add_mac(sign_pre_command(pre_command, SIGNER), Z)
    with pytest.raises(MacInvalid):
        verify_mac(command, bytes(32))
    other = ec.derive_private_key(0xBAD, ec.SECP256R1()).public_key()
    with pytest.raises(SignatureInvalid):
        verify_message(command, other)


@given(st.text(max_size=24), st.integers(-1, 7))
def test_a_label_is_good_for_the_wire_or_refused(text: str, index: int) -> None:
    good = 1 <= index <= 5 and 1 <= len(text) <= 22 and all(" " <= char <= "~" for char in text)
    if good:
        assert Label(index, text).text == text
        return
    with pytest.raises(BuildError):
        Label(index, text)


@given(st.binary(min_size=12, max_size=12))
def test_any_date_time(octets: bytes) -> None:
    try:
        date_time = GbcsDateTime.parse_untrusted(octets)
    except FormatError:
        return
    assert date_time.to_bytes() == octets
    date_time.timestamp()
    str(date_time)


@given(st.floats(-62135596800, 253402300799.99))
def test_times_survive_to_the_hundredth(seconds: float) -> None:
    told = GbcsDateTime.from_timestamp(seconds).timestamp()
    assert told is not None
    assert -0.001 <= seconds - told < 0.0101


@given(date_times)
def test_date_times_survive(date_time: GbcsDateTime) -> None:
    assert GbcsDateTime.parse_untrusted(date_time.to_bytes()) == date_time


@given(pre_commands)
def test_labels_are_counted_without_reading(pre_command: PreCommand) -> None:
    assert label_count(pre_command.to_bytes()) == len(pre_command.labels)
