"""One fragment explained: fields with their bits and meaning, what the body is, how it travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from smtunnel import (
    DICTIONARY_IDS,
    ECS46A,
    ECS200,
    Carrier,
    Compression,
    Fragment,
    MessageAssembly,
    Originator,
    RemoteError,
    parse_untrusted_fragment,
    payload_to_labels,
)
from smtunnel.codec import decode_base64_untrusted, dictionary_id_of

_COMPRESSION_MEANING: Final = {
    Compression.NONE: "none: the message travels as it is, in this one fragment",
    Compression.ZLIB: "zlib: all bodies together are one zlib stream",
    Compression.RESERVED: "reserved for a later version: receivers refuse the message",
    Compression.CONTROL: "control record: for the tunnel ends, not data",
}
_ORIGINATOR_MEANING: Final = {
    Originator.DSRSP: "DSRSP: the message goes down to the CEM",
    Originator.CEM: "CEM: the message goes up to the DSRSP",
}
_PREVIEW_OCTETS: Final = 60


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One field of the header.

    Attributes:
        name: as in the specification.
        high_bit: its most significant bit, 23 to 0.
        bits: its bits as text, most significant first.
        meaning: for a person.
    """

    name: str
    high_bit: int
    bits: str
    meaning: str


@dataclass(frozen=True, slots=True)
class FragmentReport:
    """One fragment explained.

    Attributes:
        payload: the whole text.
        carrier: the smallest carrier that it fits.
        fragment: header and body.
        header_octets: the three octets.
        fields: the header from bit 23 down to bit 0.
        body: lines about the body.
        message: the message itself when this fragment is all of it and decodes, else None.
    """

    payload: str
    carrier: Carrier
    fragment: Fragment
    header_octets: bytes
    fields: tuple[HeaderField, ...]
    body: tuple[str, ...]
    message: bytes | None

    def to_json(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        header = self.fragment.header
        body = self.fragment.body.decode("ascii")
        labels = None
        if len(self.payload) <= ECS46A.capacity:
            labels = [text for _, text in payload_to_labels(self.payload)]
        return {
            "header_text": self.payload[:4],
            "header_octets": self.header_octets.hex(),
            "originator": header.originator.name.lower(),
            "compression": header.compression.name.lower(),
            "base64": header.base64,
            "last": header.last,
            "index": header.index,
            "tunnel_message_id": header.tunnel_message_id,
            "carrier": self.carrier.name,
            "body": body,
            "body_chars": len(body),
            "body_notes": list(self.body),
            "labels": labels,
            "message_octets": None if self.message is None else len(self.message),
            "message_hex": None if self.message is None else self.message.hex(),
        }


def explain_untrusted_fragment(payload: str, carrier: Carrier | None = None) -> FragmentReport:
    """Explain one payload.

    Args:
        payload: the text that a carrier held.
        carrier: which carrier; None for the smallest that holds it.

    Raises:
        NotAFragment: it is not a fragment; says why.
    """
    chosen = carrier or (ECS46A if len(payload) <= ECS46A.capacity else ECS200)
    fragment = parse_untrusted_fragment(payload, chosen)
    message, body = _explain_body(fragment, chosen)
    octets = fragment.header.to_bytes()
    return FragmentReport(payload, chosen, fragment, octets, _fields(fragment), body, message)


def _fields(fragment: Fragment) -> tuple[HeaderField, ...]:
    header = fragment.header
    value = int.from_bytes(header.to_bytes(), "big")
    count = header.index + 1
    last = f"the last: the message has {count} fragment{'s' if count > 1 else ''}"
    meanings = (
        ("originator", 1, _ORIGINATOR_MEANING[header.originator]),
        ("compression", 2, _COMPRESSION_MEANING[header.compression]),
        ("encoding", 1, "base64: all bodies together are one base64 text"),
        ("last", 1, last if header.last else "not the last: more fragments belong to the message"),
        ("index", 11, f"{header.index}: fragment {header.index + 1} of its message"),
        ("message id", 8, f"{header.tunnel_message_id}: groups the fragments of one message"),
    )
    fields = []
    high = 23
    for name, width, meaning in meanings:
        bits = f"{value >> (high - width + 1) & (1 << width) - 1:0{width}b}"
        fields.append(HeaderField(name, high, bits, meaning))
        high -= width
    return tuple(fields)


def _explain_body(fragment: Fragment, carrier: Carrier) -> tuple[bytes | None, tuple[str, ...]]:
    header, body = fragment.header, fragment.body
    room = carrier.body_capacity
    fill = "full" if len(body) == room else f"room for {room}"
    lines = [f"{len(body)} characters of base64 ({fill} on {carrier.name})"]
    zlib_note = _explain_zlib_header(body) if header.compression is Compression.ZLIB else None
    if header.index == 0 and zlib_note is not None:
        lines.append(zlib_note)
    if header.index or not header.last or header.compression > Compression.ZLIB:
        if header.compression <= Compression.ZLIB:
            lines.append("the other fragments are needed to decode the message")
        return None, tuple(lines)
    assembly = MessageAssembly()
    try:
        assembly.add(fragment)
        message = assembly.decode()
    except RemoteError as error:
        lines.append(f"this is the whole message, but it does not decode: {error}")
        return None, tuple(lines)
    lines.append(f"this is the whole message: {len(message)} octets, {_preview(message)}")
    return message, tuple(lines)


def _explain_zlib_header(body: bytes) -> str | None:
    try:
        start = decode_base64_untrusted(body[: min(len(body), 8) // 4 * 4])
    except RemoteError:
        return None
    if len(start) < 2 or int.from_bytes(start[:2], "big") % 31 or start[0] & 0x0F != 8:
        return "does not begin with a zlib header"
    window = (
        f"zlib header {start[:2].hex(' ').upper()}: window of {1 << (start[0] >> 4) + 8} octets"
    )
    if start[1] & 0x20:
        return f"{window}, needs {_name_dictionary(dictionary_id_of(start))}"
    return f"{window}, no preset dictionary"


def _name_dictionary(dictionary_id: int | None) -> str:
    if dictionary_id is None:
        return "a preset dictionary that the next fragment names"
    for number, known in DICTIONARY_IDS.items():
        if known == dictionary_id:
            return f"preset dictionary {number} (DICTID {dictionary_id:08X})"
    return f"a preset dictionary that is not known here (DICTID {dictionary_id:08X})"


def _preview(message: bytes) -> str:
    start = message[:_PREVIEW_OCTETS]
    more = "..." if len(message) > _PREVIEW_OCTETS else ""
    text = start.decode("utf-8", "ignore")
    if all(c.isprintable() or c.isspace() for c in text) and len(text.encode()) >= len(start) - 3:
        return f"text {text!r}{more}"
    return f"hex {start.hex()}{more}"
