"""The vectors catch what implementers get wrong: the library, broken on purpose in one place."""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

import smtunnel.control
import smtunnel.header
import smtunnel.reassembler
import smtunnel.uses
import smtunnel.window
from lab.conformance import default_folder, read_cases, run_cases
from lab.conformance.reference_target import ReferenceTarget
from smtunnel import (
    Carrier,
    FragmentHeader,
    IgnoreReason,
    MessageAssembly,
    NotAFragment,
    ZlibError,
)
from smtunnel.codec import encode_base64
from smtunnel.fragments import Fragment
from smtunnel.uses import TAG_MASK, Standing, Use
from smtunnel.window import ReplayWindow, Verdict

CASES = read_cases(default_folder())
Patch = pytest.MonkeyPatch


class InProcess:
    def __init__(self) -> None:
        self._target = ReferenceTarget()
        self.starts = 1

    def ask(self, request: str) -> list[str]:
        try:
            return self._target.answer(f"1 {request}").split(" ")[1:]
        except Exception as error:
            # A broken library may crash: then it is wrong, too.
            return ["crashed", type(error).__name__]

    def close(self) -> None:
        pass


def caught(kinds: Sequence[str]) -> set[str]:
    cases = [case for case in CASES if case.kind in kinds]
    return {result.name for result in run_cases(InProcess(), cases).failures}


# Headers and payloads


def swapped_bits(patch: Patch) -> None:
    """Encoding and last have changed places."""
    right = smtunnel.header.header_of_value

    def wrong(value: int) -> FragmentHeader:
        header = right(value)
        return replace(header, base64=header.last, last=header.base64)

    for module in ("header", "fragments"):
        patch.setattr(f"smtunnel.{module}.header_of_value", wrong)


def index_little_endian(patch: Patch) -> None:
    right = smtunnel.header.header_of_value

    def wrong(value: int) -> FragmentHeader:
        index = value >> 8 & 2047
        return replace(right(value), index=(index & 7) << 8 | index >> 3)

    for module in ("header", "fragments"):
        patch.setattr(f"smtunnel.{module}.header_of_value", wrong)


def padded_header(patch: Patch) -> None:
    """A header's text may have padding."""

    def wrong(text: bytes) -> bytes:
        try:
            return binascii.a2b_base64(text).ljust(3, b"\0")[:3]
        except binascii.Error:
            raise NotAFragment("no header") from None

    patch.setattr("smtunnel.header.header_octets_of_text", wrong)


def lenient_payloads(patch: Patch) -> None:
    """Characters outside the alphabet are skipped."""
    right = smtunnel.parse_untrusted_fragment

    def wrong(payload: str | bytes, carrier: Carrier) -> Fragment:
        if isinstance(payload, str):
            payload = re.sub(r"[^A-Za-z0-9+/=]", "", payload)
        return right(payload, carrier)

    patch.setattr("lab.conformance.reference.parse_untrusted_fragment", wrong)


def no_capacity(patch: Patch) -> None:
    right = smtunnel.parse_untrusted_fragment

    def wrong(payload: str | bytes, carrier: Carrier) -> Fragment:
        return right(payload, replace(carrier, capacity=5000))

    patch.setattr("lab.conformance.reference.parse_untrusted_fragment", wrong)


def unchecked_headers(patch: Patch) -> None:
    """Headers that no sender writes pass."""
    patch.setattr("smtunnel.fragments._check_header", lambda fragment, carrier: None)


def any_labels(patch: Patch) -> None:
    patch.setattr(
        "lab.conformance.reference_target.labels_to_payload",
        lambda labels: "".join(text for _, text in labels),
    )


# Decoding


def lenient_base64(patch: Patch) -> None:
    """What Python's b64decode does without validate."""
    patch.setattr("smtunnel.assembly.decode_base64_untrusted", lambda t: binascii.a2b_base64(t))


def tail_bits(patch: Patch) -> None:
    """Bits behind the last octet may be set."""
    patch.setattr(
        "smtunnel.assembly.decode_base64_untrusted",
        lambda text: binascii.a2b_base64(text, strict_mode=True),
    )


def adds_padding(patch: Patch) -> None:
    right = smtunnel.assembly.decode_base64_untrusted
    patch.setattr(
        "smtunnel.assembly.decode_base64_untrusted",
        lambda text: right(text + b"=" * (-len(text) % 4)),
    )


def raw_inflate(stream: bytes) -> tuple[bytes, bytes]:
    inflater = zlib.decompressobj(-15)
    try:
        message = inflater.decompress(stream[2:], 70_000)
    except zlib.error as error:
        raise ZlibError(str(error)) from None
    if not inflater.eof:
        raise ZlibError("cut short")
    return message, inflater.unused_data


def wrong_inflater(
    patch: Patch, inflate: Callable[[bytes, int], bytes], *, look_for_dictionary: bool = True
) -> None:
    right = smtunnel.assembly.inflate_untrusted

    def wrong(stream: bytes, *, max_octets: int, window_bits: int) -> bytes:
        if look_for_dictionary and len(stream) > 1 and stream[1] & 0x20:
            return right(stream, max_octets=max_octets, window_bits=window_bits)
        return inflate(stream, max_octets)

    patch.setattr("smtunnel.assembly.inflate_untrusted", wrong)


def no_adler(patch: Patch) -> None:
    wrong_inflater(patch, lambda stream, limit: raw_inflate(stream)[0])


def trailing_data(patch: Patch) -> None:
    def inflate(stream: bytes, limit: int) -> bytes:
        try:
            return zlib.decompressobj().decompress(stream, limit)
        except zlib.error as error:
            raise ZlibError(str(error)) from None

    wrong_inflater(patch, inflate)


def ignored_dictionary_flag(patch: Patch) -> None:
    def inflate(stream: bytes, limit: int) -> bytes:
        try:
            return zlib.decompress(stream)
        except zlib.error as error:
            raise ZlibError(str(error)) from None

    wrong_inflater(patch, inflate, look_for_dictionary=False)


def no_message_limit(patch: Patch) -> None:
    right = smtunnel.assembly.inflate_untrusted
    patch.setattr(
        "smtunnel.assembly.inflate_untrusted",
        lambda stream, **limits: right(stream, **{**limits, "max_octets": 2_000_000}),
    )


def limit_too_small_by_one(patch: Patch) -> None:
    right = smtunnel.assembly.inflate_untrusted
    patch.setattr(
        "smtunnel.assembly.inflate_untrusted",
        lambda stream, max_octets, window_bits: right(
            stream, max_octets=max_octets - 1, window_bits=window_bits
        ),
    )


def any_window(patch: Patch) -> None:
    right = smtunnel.assembly.inflate_untrusted
    patch.setattr(
        "smtunnel.assembly.inflate_untrusted",
        lambda stream, max_octets, window_bits: right(stream, max_octets=max_octets),
    )


def no_dictionaries(patch: Patch) -> None:
    """Claims dictionary 1 and has it not."""
    patch.setattr("smtunnel.codec.DICTIONARIES", {})


def no_message_with_dictionary(patch: Patch) -> None:
    """Has a dictionary of the same number with other octets."""
    patch.setattr("smtunnel.codec.DICTIONARIES", {0x1D9B0BCE: bytes(8192)})


def stops_at_last(patch: Patch) -> None:
    """Takes the message for whole when its last fragment comes."""
    patch.setattr(
        MessageAssembly, "complete", property(lambda self: self.fragments_total is not None)
    )


def first_content_wins(patch: Patch) -> None:
    patch.setattr(MessageAssembly, "_compare", lambda *arguments: None)


def last_flags_unchecked(patch: Patch) -> None:
    def wrong(self: MessageAssembly, index: int, last: bool) -> None:
        if last:
            self._last_index = index
        self._highest = max(self._highest, index)

    patch.setattr(MessageAssembly, "_check_last", wrong)


def reserved_as_zlib(patch: Patch) -> None:
    right = MessageAssembly.add

    def wrong(self: MessageAssembly, fragment: Fragment) -> bool:
        bits = fragment.header_bits
        if bits >> 21 & 3 == 2:
            fragment = Fragment(bits ^ 3 << 21, fragment.body)
        return right(self, fragment)

    patch.setattr(MessageAssembly, "add", wrong)


def numbers_fragments_as_they_come(patch: Patch) -> None:
    right = MessageAssembly.add

    def wrong(self: MessageAssembly, fragment: Fragment) -> bool:
        bits = fragment.header_bits & ~(2047 << 8) | self.fragments << 8
        return right(self, Fragment(bits, fragment.body))

    patch.setattr(MessageAssembly, "add", wrong)


# Sending


def last_flag_forgotten(patch: Patch) -> None:
    patch.setattr("smtunnel.fragments.LAST_FLAG", 0)


def one_character_less(patch: Patch) -> None:
    """Bodies are not full."""
    patch.setattr(
        Carrier, "body_capacity", property(lambda self: self.capacity - self.header_size - 1)
    )


def not_padded(patch: Patch) -> None:
    patch.setattr("smtunnel.fragments.encode_base64", lambda o: encode_base64(o).rstrip(b"="))


def window_not_limited(patch: Patch) -> None:
    right = smtunnel.fragments.deflate
    patch.setattr(
        "smtunnel.fragments.deflate",
        lambda message, **how: right(message, **{**how, "window_bits": 15}),
    )


# Control messages


def no_check(patch: Patch) -> None:
    right = smtunnel.control.parse_untrusted_control

    def wrong(octets: bytes) -> object:
        return right(octets[:-4] + zlib.crc32(octets[:-4]).to_bytes(4, "big"))

    patch.setattr("lab.conformance.reference_control.parse_untrusted_control", wrong)


def unknown_kinds_not_counted(patch: Patch) -> None:
    right = smtunnel.control.parse_untrusted_control
    patch.setattr(
        "lab.conformance.reference_control.parse_untrusted_control",
        lambda octets: replace(right(octets), skipped=0),
    )


def bodies_not_ended(patch: Patch) -> None:
    patch.setattr("smtunnel.octets.Reader.end", lambda self: None)


# Sessions


def joins_by_id_alone(patch: Patch) -> None:
    """A fragment of an older message fills the hole of a newer one."""
    patch.setattr(Use, "has", lambda self, key: True)


def joins_by_first_counter(patch: Patch) -> None:
    """What is sent again under a new counter is of no message."""
    patch.setattr(Use, "has", lambda self, key: key == self.key)


def joins_by_tag_alone(patch: Patch) -> None:
    """A message of long ago with the same tag joins."""
    patch.setattr(Use, "has", lambda self, key: (key - self.key) & TAG_MASK == 0)


def no_replay_window(patch: Patch) -> None:
    patch.setattr(ReplayWindow, "judge", lambda *arguments: Verdict.NEW)


def judged_as(patch: Patch, found: Verdict, instead: Verdict) -> None:
    right = ReplayWindow.judge

    def wrong(self: ReplayWindow, counter: int, check: int) -> Verdict:
        verdict = right(self, counter, check)
        return instead if verdict is found else verdict

    patch.setattr(ReplayWindow, "judge", wrong)


def no_floor(patch: Patch) -> None:
    judged_as(patch, Verdict.STALE, Verdict.NEW)


def reuse_unnoticed(patch: Patch) -> None:
    judged_as(patch, Verdict.REUSED, Verdict.REPLAY)


def window_forgets_the_newest(patch: Patch) -> None:
    def wrong(self: ReplayWindow, counter: int, check: int) -> None:
        if len(self._counters) < self._size:
            self._counters.append(counter)
            self._checks.append(check)

    patch.setattr(ReplayWindow, "accept", wrong)


def refused_as(
    patch: Patch, change: Callable[[Use | None, IgnoreReason | None], IgnoreReason | None]
) -> None:
    right = smtunnel.uses.refusal
    patch.setattr(
        "smtunnel.reassembler.refusal",
        lambda use, key, verdict: change(use, right(use, key, verdict)),
    )


def older_messages_begin_again(patch: Patch) -> None:
    refused_as(patch, lambda u, r: None if r is IgnoreReason.OLDER_MESSAGE else r)


def delivers_twice(patch: Patch) -> None:
    def change(use: Use | None, reason: IgnoreReason | None) -> IgnoreReason | None:
        return None if reason is IgnoreReason.DELIVERED else reason

    refused_as(patch, change)
    right = Use.has
    patch.setattr(
        Use,
        "has",
        lambda self, key: right(self, key) and self.standing is not Standing.DELIVERED,
    )


def ended_counts_as_delivered(patch: Patch) -> None:
    refused_as(patch, lambda u, r: IgnoreReason.DELIVERED if r is IgnoreReason.ENDED else r)


def below_the_floor_is_stale_even_if_live(patch: Patch) -> None:
    right = smtunnel.uses.refusal

    def wrong(use: Use | None, key: int, verdict: Verdict) -> IgnoreReason | None:
        return IgnoreReason.STALE if verdict is Verdict.STALE else right(use, key, verdict)

    patch.setattr("smtunnel.reassembler.refusal", wrong)


def control_shares_ids(patch: Patch) -> None:
    patch.setattr("smtunnel.reassembler.CONTROL_SLOT", 0)


def never_expires(patch: Patch) -> None:
    patch.setattr(smtunnel.reassembler.Reassembler, "handle_timer", lambda self, now: [])


def takes_its_own_side(patch: Patch) -> None:
    right = smtunnel.parse_untrusted_fragment

    def wrong(payload: str | bytes, carrier: Carrier) -> Fragment:
        fragment = right(payload, carrier)
        return Fragment(fragment.header_bits & 0x7FFFFF, fragment.body)

    patch.setattr("smtunnel.reassembler.parse_untrusted_fragment", wrong)


def restart_forgets_the_window(patch: Patch) -> None:
    patch.setattr(ReplayWindow, "merge", lambda self, saved: 10 + 12 * saved[9])


def restart_forgets_how_it_ended(patch: Patch) -> None:
    right = smtunnel.uses.restore_uses

    def wrong(peer: bytes, saved: bytes) -> list[Use]:
        return [use for use in right(peer, saved) if use.standing is Standing.PARTIAL]

    patch.setattr("smtunnel.reassembler.restore_uses", wrong)


DECODE = ("decode",)
SESSION = ("session",)
RESTART = ("session-restart",)
FLAWS: list[tuple[Callable[[Patch], None], tuple[str, ...]]] = [
    (swapped_bits, ("header-unpack", "payload-parse")),
    (index_little_endian, ("header-unpack", "payload-parse")),
    (padded_header, ("header-unpack",)),
    (lenient_payloads, ("payload-parse",)),
    (no_capacity, ("payload-parse",)),
    (unchecked_headers, ("payload-parse",)),
    (any_labels, ("labels-join",)),
    (lenient_base64, DECODE),
    (tail_bits, DECODE),
    (adds_padding, DECODE),
    (no_adler, DECODE),
    (trailing_data, DECODE),
    (ignored_dictionary_flag, DECODE),
    (no_message_limit, DECODE),
    (limit_too_small_by_one, DECODE),
    (any_window, DECODE),
    (no_dictionaries, DECODE),
    (no_message_with_dictionary, DECODE),
    (stops_at_last, DECODE),
    (first_content_wins, DECODE),
    (last_flags_unchecked, DECODE),
    (reserved_as_zlib, DECODE),
    (numbers_fragments_as_they_come, DECODE),
    (last_flag_forgotten, ("cut", "encode")),
    (one_character_less, ("cut",)),
    (not_padded, ("cut", "encode")),
    (window_not_limited, ("encode",)),
    (no_check, ("control-parse",)),
    (unknown_kinds_not_counted, ("control-parse",)),
    (bodies_not_ended, ("control-parse",)),
    (joins_by_id_alone, SESSION),
    (joins_by_first_counter, SESSION),
    (joins_by_tag_alone, SESSION),
    (no_replay_window, SESSION),
    (no_floor, SESSION),
    (reuse_unnoticed, SESSION),
    (window_forgets_the_newest, SESSION),
    (older_messages_begin_again, SESSION),
    (delivers_twice, SESSION),
    (ended_counts_as_delivered, SESSION),
    (below_the_floor_is_stale_even_if_live, SESSION),
    (control_shares_ids, SESSION),
    (never_expires, SESSION),
    (takes_its_own_side, SESSION),
    (restart_forgets_the_window, RESTART),
    (restart_forgets_how_it_ended, RESTART),
]


@pytest.mark.parametrize(("flaw", "kinds"), FLAWS, ids=[flaw.__name__ for flaw, _ in FLAWS])
def test_a_flaw_is_caught(
    monkeypatch: pytest.MonkeyPatch, flaw: Callable[[Patch], None], kinds: tuple[str, ...]
) -> None:
    with monkeypatch.context() as patch:
        flaw(patch)
        for kind in kinds:
            assert caught([kind]), f"{flaw.__name__} passes all of {kind}"


def test_without_a_flaw_nothing_is_caught() -> None:
    assert caught([kind for _, kinds in FLAWS for kind in kinds]) == set()
