"""The decoders of the tunnel protocol."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fuzzing.engine import Decoder, Parts
from lab.fragment_report import explain_untrusted_fragment
from smtunnel import (
    ECS46A,
    ECS200,
    Base64Error,
    Carrier,
    Confirmation,
    ControlInvalid,
    Endpoint,
    LimitExceeded,
    Limits,
    LocalError,
    MessageAssembly,
    NotAFragment,
    Originator,
    Reassembler,
    RemoteError,
    SendPolicy,
    StateError,
    UnknownDictionary,
    WindowTooLarge,
    ZlibError,
    encode_message,
    labels_to_payload,
    parse_untrusted_fragment,
    parse_untrusted_header,
    payload_to_labels,
)
from smtunnel.codec import decode_base64_untrusted, deflate, encode_base64, inflate_untrusted
from smtunnel.control import CRC_OCTETS, parse_untrusted_control
from smtunnel.dictionaries import DICTIONARIES

VECTORS: Final = Path(__file__).resolve().parents[2] / "specs" / "vectors"
PEER: Final = b"\x02\x53MT\x00\x00\x00\x01"
MAX_COUNTER: Final = 2**64 - 1
LIMITS: Final = replace(
    Limits(), message_octets=20_000, partial_messages_per_peer=3, total_octets=200_000
)
_LINE: Final = re.compile(rb"([0-9a-f]{1,24}) (.*)", re.DOTALL)
RAW_ECS46A: Final = replace(ECS46A, printable=False)
RAW_ECS200: Final = replace(ECS200, printable=False)


def vectors(kind: str) -> list[dict[str, Any]]:
    """Return the project's own vectors of one kind."""
    found: list[dict[str, Any]] = json.loads((VECTORS / f"tunnel-{kind}.json").read_text())[
        "vectors"
    ]
    return found


def messages() -> list[bytes]:
    """Return messages of several lengths and kinds."""
    noise = random.Random(1).randbytes(700)  # noqa: S311
    xml = b"<oadr:oadrPayload><oadr:oadrPoll><ei:venID>123</ei:venID></oadr:oadrPoll>" * 9
    return [b"x", xml, noise, b"\x00" * 9000, noise[:40] * 20]


def all_payloads(carrier: Carrier, originator: Originator, **more: Any) -> list[list[bytes]]:
    """Return the payloads of several messages, as octets, each in all compressions."""
    made = []
    for number, message in enumerate(messages()):
        for compression in ("zlib", "none", "dictionary"):
            try:
                encoded = encode_message(
                    message,
                    carrier=carrier,
                    originator=originator,
                    tunnel_message_id=number,
                    compression=compression,  # type: ignore[arg-type]
                    peer_dictionaries=frozenset(DICTIONARIES),
                    **more,
                )
            except LocalError:
                continue  # an uncompressed message fits one fragment or none
            made.append([latin(payload) for payload in encoded.payloads or encoded.octet_payloads])
    return made


def latin(payload: str | bytes) -> bytes:
    """Return a payload as octets."""
    return payload.encode("latin-1") if isinstance(payload, str) else payload


def lines(octets: bytes) -> list[tuple[int, bytes]]:
    """Read counters and payloads, one pair a line; what is none is left out."""
    pairs = (_LINE.fullmatch(line) for line in octets.split(b"\n"))
    return [(int(pair[1], 16) & MAX_COUNTER, pair[2]) for pair in pairs if pair]


def by_lines(first: int, payloads: Iterable[bytes]) -> bytes:
    """Write what `lines` reads."""
    return b"\n".join(b"%x %s" % (first + step, one) for step, one in enumerate(payloads))


def split_lines(octets: bytes) -> list[bytes]:
    """Take an input of lines apart."""
    return octets.split(b"\n")


LINES: Final = Parts(split_lines, b"\n".join)


def _assemble(octets: bytes) -> None:
    assembly = MessageAssembly(max_message_octets=20_000, stream_from_chars=300)
    for line in octets.split(b"\n"):
        assembly.add(parse_untrusted_fragment(line.decode("latin-1"), ECS46A))
    if assembly.complete:
        assembly.decode()


def _reassemble(octets: bytes) -> None:
    reassembler = Reassembler(originator=Originator.DSRSP, carrier=ECS46A, limits=LIMITS)
    now = 0.0
    for counter, payload in lines(octets):
        now += 60.0
        reassembler.receive_fragment(
            PEER, payload.decode("latin-1"), originator_counter=counter, now=now
        )
        if reassembler.held_octets > LIMITS.total_octets:
            raise AssertionError(f"{reassembler.held_octets} octets are held")
    saved = reassembler.export_window(PEER)
    reassembler.restore_window(PEER, saved)
    reassembler.handle_timer(now + 1e9)
    if reassembler.held_octets or reassembler.partial_messages:
        raise AssertionError("something is held of messages that have ended")


class _Counters:
    def __init__(self, first: int) -> None:
        self.next = first

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        while self.next % 65_536 in avoid_tags:
            self.next += 1
        self.next += count
        return self.next - count

    def issue_for_tag(self, tag: int, index: int) -> int:
        self.next += (tag + index - self.next) % 65_536 + 1
        return self.next - 1


def new_endpoint(side: Originator, first: int = 1) -> Endpoint:
    """Make an endpoint that knows nothing, whose counters begin with first."""
    down = side is Originator.DSRSP
    return Endpoint(
        side=side,
        counters=_Counters(first),
        policy=SendPolicy(confirmation=Confirmation.RESULTS if down else Confirmation.RECEIPTS),
        random_fraction=random.Random(1).random,  # noqa: S311
        limits=LIMITS,
    )


def _live(side: Originator) -> Callable[[bytes], None]:
    """Return what gives an endpoint with messages on their way all that an input says."""

    def run(octets: bytes) -> None:
        endpoint = new_endpoint(side)
        endpoint.restore((), 0.0)
        for number, message in enumerate(messages()):
            endpoint.send(f"m{number}", PEER, message, 0.0)
        now = 0.0
        for counter, payload in lines(octets):
            now += 20.0
            text = payload.decode("latin-1")
            endpoint.on_fragment(PEER, text, originator_counter=counter, now=now)
            endpoint.on_timer(now)

    return run


def _saved_rows(side: Originator) -> list[bytes]:
    """Return what endpoints save on their way, one row a line."""
    endpoint, rows, made = new_endpoint(side), dict[str, bytes](), []
    other = Originator.CEM if side is Originator.DSRSP else Originator.DSRSP
    carrier = ECS200 if side is Originator.DSRSP else ECS46A
    effects = [endpoint.restore((), 0.0), endpoint.announce(PEER, 1.0)]
    effects += [endpoint.send(f"m{n}", PEER, m, 2.0) for n, m in enumerate(messages())]
    for number, payloads in enumerate(all_payloads(carrier, other)[:6]):
        for index, payload in enumerate(payloads[: 1 + number]):
            effects.append(
                endpoint.on_fragment(
                    PEER,
                    payload.decode("latin-1"),
                    originator_counter=number * 1000 + index + 5,
                    now=3.0,
                )
            )
    for effect in effects:
        for key, octets in effect.saves.items():
            if octets is None:
                rows.pop(key, None)
            else:
                rows[key] = octets
        made.append(b"\n".join(b"%s %s" % (k.encode(), v.hex().encode()) for k, v in rows.items()))
    return [one for one in made if one]


def restore_rows(side: Originator) -> Callable[[bytes], None]:
    """Return what restores an endpoint from the rows that an input has, one a line."""

    def run(octets: bytes) -> None:
        rows = []
        for line in octets.split(b"\n"):
            key, _, value = line.decode("latin-1").rpartition(" ")
            try:
                rows.append((key, bytes.fromhex(value)))
            except ValueError:
                continue  # a store gives octets, not digits
        # Above all that was saved, as a store gives them out.
        endpoint = new_endpoint(side, 1 << 40)
        endpoint.restore(dict(rows).items(), 10.0)
        endpoint.on_timer(20.0)
        endpoint.on_timer(1e7)

    return run


def _rows(octets: bytes) -> list[bytes]:
    """Take saved rows apart: keys and octets in turn."""
    pairs = [line.rpartition(b" ") for line in octets.split(b"\n")]
    return [part for key, _, value in pairs for part in (key, bytes.fromhex(value.decode()))]


def _join_rows(parts: list[bytes]) -> bytes:
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return b"\n".join(key.replace(b"\n", b"") + b" " + value.hex().encode() for key, value in pairs)


ROW_PARTS: Final = Parts(_rows, _join_rows)


def _windows() -> list[bytes]:
    made = []
    for payloads in all_payloads(ECS46A, Originator.DSRSP):
        reassembler = Reassembler(originator=Originator.DSRSP, carrier=ECS46A, limits=LIMITS)
        for index, payload in enumerate(payloads[:5]):
            reassembler.receive_fragment(
                PEER, payload.decode("latin-1"), originator_counter=2**40 + index, now=1.0
            )
        made.append(reassembler.export_window(PEER))
    return made


def _restore_window(octets: bytes) -> None:
    reassembler = Reassembler(originator=Originator.DSRSP, carrier=ECS46A, limits=LIMITS)
    reassembler.restore_window(PEER, octets)
    reassembler.export_window(PEER)
    reassembler.handle_timer(1e9)


def _labels(octets: bytes) -> None:
    given = octets.decode("latin-1").split("\n")
    payload = labels_to_payload([(ord(line[0]), line[1:]) for line in given if line])
    if payload is not None:
        payload_to_labels(payload)


def _streams() -> list[bytes]:
    made = []
    for message in messages():
        made += [deflate(message, window_bits=bits) for bits in (9, 12, 15)]
        made += [deflate(message, level=0)]
        made += [deflate(message, dictionary=dictionary) for dictionary in DICTIONARIES.values()]
    return made


def _base64_lines(parts: list[bytes]) -> bytes:
    """Cut octets of any kind into the fragments of a message in zlib's compression."""
    header, stream = parts[0], encode_base64(parts[1])
    bodies = [stream[start : start + 106] for start in range(0, len(stream), 106)] or [b""]
    total = len(bodies)
    made = []
    for index, body in enumerate(bodies[:2048]):
        value = int.from_bytes(header[:3].ljust(3, b"\0"), "big") & 0xF000FF
        value |= (index == total - 1) << 19 | index << 8
        made.append(encode_base64(value.to_bytes(3, "big")) + body)
    return b"\n".join(made)


def _split_fragments(octets: bytes) -> list[bytes]:
    payloads = [line.rpartition(b" ")[2] for line in octets.split(b"\n")]
    try:
        head = decode_base64_untrusted(payloads[0][:4])
        return [head, decode_base64_untrusted(b"".join(line[4:] for line in payloads))]
    except Base64Error:
        return [b"\x28\x00\x00", octets]


def _with_crc(parts: list[bytes]) -> bytes:
    return parts[0] + zlib.crc32(parts[0]).to_bytes(CRC_OCTETS, "big")


def _control_seeds() -> list[bytes]:
    return [bytes.fromhex(v["octets"]) for v in vectors("control") if "octets" in v]


def _session_seeds(other: Originator) -> list[bytes]:
    """Return data messages and control messages for an endpoint, as a peer sends them."""
    carrier = ECS46A if other is Originator.DSRSP else ECS200
    made = [by_lines(7, payloads) for payloads in all_payloads(carrier, other)]
    top = 0x78 if other is Originator.DSRSP else 0xF8
    for number, octets in enumerate(_control_seeds()):
        body = encode_base64(octets)
        if len(body) + 4 <= carrier.capacity:
            made.append(by_lines(40 + number, [encode_base64(bytes([top, 0, 255])) + body]))
    return made


def _in_control(other: Originator) -> Parts:
    """Damage the records of a control message below base64 and CRC-32, or a line."""
    top = 0x78 if other is Originator.DSRSP else 0xF8

    def split(octets: bytes) -> list[bytes]:
        counter, _, payload = octets.partition(b" ")
        try:
            content = decode_base64_untrusted(payload[4:])
        except Base64Error:
            content = b"\x01\x00"
        return [counter, content[:-CRC_OCTETS]]

    def join(parts: list[bytes]) -> bytes:
        payload = encode_base64(bytes([top, 0, 1])) + encode_base64(_with_crc(parts[1:]))
        return parts[0] + b" " + payload

    return Parts(split, join)


def decoders() -> list[Decoder]:
    """Return the rows of the table."""
    down = all_payloads(ECS46A, Originator.DSRSP)
    up = all_payloads(ECS200, Originator.CEM)
    messages_down = [b"\n".join(payloads) for payloads in down]
    heads = [payload[:4] for payloads in down + up for payload in payloads[:2]]
    raw = [p for c in (RAW_ECS46A, RAW_ECS200) for m in all_payloads(c, Originator.CEM) for p in m]
    raw_small = [payload for payload in raw if len(payload) <= ECS46A.capacity]
    stream_errors = (UnknownDictionary, WindowTooLarge, LimitExceeded, ZlibError)
    texts = [encode_base64(message) for message in messages()]
    labels = [
        b"\n".join(bytes([n]) + text.encode() for n, text in payload_to_labels(p.decode("ascii")))
        for payloads in down
        for p in payloads
    ]
    return [
        Decoder(
            "tunnel-header-text",
            ("smtunnel.header:parse_untrusted_header",),
            lambda octets: parse_untrusted_header(octets.decode("latin-1")),
            (NotAFragment,),
            heads,
        ),
        Decoder(
            "tunnel-header-octets",
            ("smtunnel.header:parse_untrusted_header",),
            parse_untrusted_header,
            (NotAFragment,),
            [payload[:3] for payload in raw],
        ),
        Decoder(
            "tunnel-fragment-ecs46a",
            ("smtunnel.fragments:parse_untrusted_fragment",),
            lambda octets: parse_untrusted_fragment(octets.decode("latin-1"), ECS46A),
            (NotAFragment,),
            [payload for payloads in down for payload in payloads],
        ),
        Decoder(
            "tunnel-fragment-ecs200",
            ("smtunnel.fragments:parse_untrusted_fragment",),
            lambda octets: parse_untrusted_fragment(octets.decode("latin-1"), ECS200),
            (NotAFragment,),
            [payload for payloads in up for payload in payloads],
        ),
        Decoder(
            "tunnel-fragment-octets",
            ("smtunnel.fragments:parse_untrusted_fragment",),
            lambda octets: parse_untrusted_fragment(octets, RAW_ECS46A),
            (NotAFragment,),
            raw_small,
        ),
        Decoder(
            "tunnel-explain",
            ("lab.fragment_report:explain_untrusted_fragment",),
            lambda octets: explain_untrusted_fragment(octets.decode("latin-1")),
            (NotAFragment,),
            [payload for payloads in down + up for payload in payloads],
        ),
        Decoder(
            "tunnel-labels", ("smtunnel.labels:labels_to_payload",), _labels, (), labels, LINES
        ),
        Decoder(
            "tunnel-base64",
            ("smtunnel.codec:decode_base64_untrusted",),
            decode_base64_untrusted,
            (Base64Error,),
            texts,
        ),
        Decoder(
            "tunnel-inflate",
            ("smtunnel.codec:inflate_untrusted",),
            lambda octets: inflate_untrusted(octets, max_octets=20_000),
            stream_errors,
            _streams(),
        ),
        Decoder(
            "tunnel-inflate-small-window",
            ("smtunnel.codec:inflate_untrusted",),
            lambda octets: inflate_untrusted(octets, max_octets=20_000, window_bits=9),
            stream_errors,
            _streams(),
        ),
        Decoder(
            "tunnel-assembly",
            ("smtunnel.assembly:MessageAssembly.add", "smtunnel.assembly:MessageAssembly.decode"),
            _assemble,
            (RemoteError,),
            messages_down,
            Parts(_split_fragments, _base64_lines),
        ),
        Decoder(
            "tunnel-reassembler",
            ("smtunnel.reassembler:Reassembler.receive_fragment",),
            _reassemble,
            (),
            [by_lines(5, payloads) for payloads in down],
            LINES,
        ),
        Decoder(
            "tunnel-control",
            (
                "smtunnel.control:parse_untrusted_control",
                "smtunnel.records:parse_untrusted",
                "smtunnel.routes:parse_untrusted",
            ),
            parse_untrusted_control,
            (ControlInvalid,),
            _control_seeds(),
            Parts(lambda octets: [octets[:-CRC_OCTETS]], _with_crc),
        ),
        Decoder(
            "tunnel-endpoint-dsrsp",
            ("smtunnel.endpoint:Endpoint.on_fragment",),
            _live(Originator.DSRSP),
            (),
            _session_seeds(Originator.CEM),
            _in_control(Originator.CEM),
        ),
        Decoder(
            "tunnel-endpoint-cem",
            ("smtunnel.endpoint:Endpoint.on_fragment",),
            _live(Originator.CEM),
            (),
            _session_seeds(Originator.DSRSP),
            _in_control(Originator.DSRSP),
        ),
        Decoder(
            "tunnel-restore-dsrsp",
            ("smtunnel.endpoint:Endpoint.restore",),
            restore_rows(Originator.DSRSP),
            (StateError,),
            _saved_rows(Originator.DSRSP),
            ROW_PARTS,
        ),
        Decoder(
            "tunnel-restore-cem",
            ("smtunnel.endpoint:Endpoint.restore",),
            restore_rows(Originator.CEM),
            (StateError,),
            _saved_rows(Originator.CEM),
            ROW_PARTS,
        ),
        Decoder(
            "tunnel-restore-window",
            ("smtunnel.reassembler:Reassembler.restore_window",),
            _restore_window,
            (StateError,),
            _windows(),
        ),
    ]
