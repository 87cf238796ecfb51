"""One message to the payloads of its fragments, and one payload back to header and body."""

from __future__ import annotations

import binascii
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from smtunnel.carriers import HEADER_CHARS, HEADER_OCTETS, ROUTE_2B, Carrier
from smtunnel.codec import MAX_WINDOW_BITS, deflate, dictionary_id_of, encode_base64
from smtunnel.dictionaries import DICTIONARIES
from smtunnel.errors import LocalError, MessageTooLong, NotAFragment
from smtunnel.header import (
    LAST_FLAG,
    MAX_FRAGMENTS,
    Compression,
    FragmentHeader,
    Originator,
    header_octets_of_text,
    header_of_value,
)
from smtunnel.limits import DEFAULT_MESSAGE_OCTETS

Payload: TypeAlias = str | bytes
"""What one carrier message carries: str on a printable carrier, bytes on an octet carrier."""

CompressionChoice: TypeAlias = Literal["auto", "zlib", "dictionary", "none"]

_KIND_MASK: Final = 0b0111 << 20
_TEXT_ZLIB: Final = 0b0011 << 20
_OCTETS_ZLIB: Final = 0b0010 << 20
_BASE64_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


class Fragment(NamedTuple):
    """One fragment as read from a carrier.

    Attributes:
        header_bits: the 24 bits of the header as a number.
        body: a piece of the message: ASCII of base64 text on a printable carrier, else octets.
    """

    header_bits: int
    body: bytes

    @property
    def header(self) -> FragmentHeader:
        """The header's fields."""
        return header_of_value(self.header_bits)


@dataclass(frozen=True, slots=True)
class EncodedMessage:
    """A message ready for its carrier.

    Attributes:
        payloads: for a printable carrier, one text per fragment in the order of their indices.
        octet_payloads: the same for an octet carrier; one of the two is always empty.
        compression: what the headers say: NONE or ZLIB.
        tunnel_message_id: the id in every header.
        message_octets: size of the message.
        compressed_octets: size after compression; equal to message_octets without.
        stream: what compression has made, before it was encoded as text and cut.
        dictionary_id: DICTID of the preset dictionary that the receiver needs, or None.
    """

    payloads: tuple[str, ...]
    octet_payloads: tuple[bytes, ...]
    compression: Compression
    tunnel_message_id: int
    message_octets: int
    compressed_octets: int
    stream: bytes = field(repr=False)
    dictionary_id: int | None = None

    @property
    def fragments(self) -> int:
        """How many fragments the message has, 1 to 2048."""
        return len(self.payloads) + len(self.octet_payloads)


def encode_message(
    message: bytes,
    *,
    carrier: Carrier,
    originator: Originator,
    tunnel_message_id: int,
    compression: CompressionChoice = "auto",
    peer_dictionaries: Collection[int] = (),
    window_bits: int = MAX_WINDOW_BITS,
    level: int = 9,
    max_message_octets: int = DEFAULT_MESSAGE_OCTETS,
) -> EncodedMessage:
    """Compress, encode and cut one message into fragments.

    Args:
        message: any octets, also none.
        carrier: what will carry the fragments.
        originator: which end we are.
        tunnel_message_id: 0 to 255, of no other message that is still on its way.
        compression: "zlib"; "dictionary": zlib with the best preset dictionary that both ends
            have; "none": as it is when it fits one fragment, else zlib framing without
            compression, because only zlib's check covers a message of several fragments;
            "auto": the smallest of zlib, zlib with each preset dictionary that both ends have
            and, if it fits one fragment, none.
        peer_dictionaries: the DICTIDs that the peer is known to have; ones unknown here are
            passed over.
        window_bits: base-two logarithm of the zlib window the receiver needs, 9 to 15.
        level: zlib's effort, 0 to 9.
        max_message_octets: the largest message that the peer takes, in octets.

    Raises:
        MessageTooLong: longer than max_message_octets, or more than 2048 fragments.
        LocalError: another argument is out of range, or "dictionary" is asked for and the peer
            is not known to have one of ours.
    """
    if len(message) > max_message_octets:
        raise MessageTooLong(
            f"the message has {len(message)} octets, but at most {max_message_octets} are taken: "
            "send less at once, or raise the limit at both ends"
        )
    shared = [known for known in DICTIONARIES if known in peer_dictionaries]
    applied, octets = _compress(message, carrier, compression, shared, window_bits, level)
    header = FragmentHeader(originator, applied, carrier.printable, False, 0, tunnel_message_id)
    return cut_stream(octets, carrier=carrier, header=header, message_octets=len(message))


def cut_stream(
    octets: bytes, *, carrier: Carrier, header: FragmentHeader, message_octets: int
) -> EncodedMessage:
    """Cut what compression has made into full bodies and put headers before them.

    Args:
        octets: the message, or what represents it.
        carrier: what will carry the fragments.
        header: what the headers have in common; its index must be 0 and it not the last.
        message_octets: size of the message itself, in octets.

    Raises:
        MessageTooLong: more than 2048 fragments.
        LocalError: the message id is out of range.
    """
    payloads: tuple[str, ...] = ()
    octet_payloads: tuple[bytes, ...] = ()
    if carrier.printable:
        payloads = _cut_text(encode_base64(octets).decode("ascii"), carrier, header)
    else:
        octet_payloads = _cut_octets(octets, carrier, header)
    return EncodedMessage(
        payloads=payloads,
        octet_payloads=octet_payloads,
        compression=header.compression,
        tunnel_message_id=header.tunnel_message_id,
        message_octets=message_octets,
        compressed_octets=len(octets),
        stream=octets,
        dictionary_id=dictionary_id_of(octets) if header.compression is Compression.ZLIB else None,
    )


def _compress(
    message: bytes,
    carrier: Carrier,
    compression: str,
    dictionary_ids: list[int],
    window_bits: int,
    level: int,
) -> tuple[Compression, bytes]:
    if compression not in get_args(CompressionChoice):
        raise LocalError(
            f"compression {compression!r} is not one of {', '.join(get_args(CompressionChoice))}"
        )
    if compression == "dictionary" and not dictionary_ids:
        raise LocalError(
            "compression with a dictionary, but the peer is not known to have one of ours "
            f"({', '.join(f'{known:08X}' for known in DICTIONARIES)}): wait for its capabilities, "
            "or use auto"
        )
    room = carrier.body_capacity // 4 * 3 if carrier.printable else carrier.body_capacity
    fits_one = len(message) <= room
    if compression == "none":
        if fits_one:
            return Compression.NONE, message
        return Compression.ZLIB, deflate(message, window_bits=window_bits, level=0)
    # An empty message would break the bound on streams if four octets named a dictionary.
    choices: list[bytes | None] = [] if compression == "dictionary" and message else [None]
    if compression != "zlib":
        choices += [DICTIONARIES[dictionary_id] for dictionary_id in dictionary_ids]
    stream = min(
        (
            deflate(message, window_bits=window_bits, level=level, dictionary=dictionary)
            for dictionary in choices
        ),
        key=len,
    )
    if compression == "auto" and fits_one and len(stream) >= len(message):
        return Compression.NONE, message
    return Compression.ZLIB, stream


def _headers(body_size: int, carrier: Carrier, first: FragmentHeader) -> list[bytes]:
    # An empty message still has one fragment: its header.
    count = max(1, -(-body_size // carrier.body_capacity))
    if count > MAX_FRAGMENTS:
        raise MessageTooLong(
            f"the message needs {count} fragments on {carrier.name}, but the index counts only "
            f"{MAX_FRAGMENTS}: send less at once, or use a larger carrier"
        )
    # Checks the ranges once; after this only the index and the last flag change.
    value = int.from_bytes(first.to_bytes(), "big")
    values = [value | index << 8 for index in range(count)]
    values[-1] |= LAST_FLAG
    return [number.to_bytes(HEADER_OCTETS, "big") for number in values]


def _cut_text(text: str, carrier: Carrier, first: FragmentHeader) -> tuple[str, ...]:
    headers = _headers(len(text), carrier, first)
    # Encoded all at once: three octets each, so their texts stand side by side.
    header_text = encode_base64(b"".join(headers)).decode("ascii")
    size = carrier.body_capacity
    width = HEADER_CHARS
    return tuple(
        [
            header_text[i * width : (i + 1) * width] + text[i * size : (i + 1) * size]
            for i in range(len(headers))
        ]
    )


def _cut_octets(octets: bytes, carrier: Carrier, first: FragmentHeader) -> tuple[bytes, ...]:
    headers = _headers(len(octets), carrier, first)
    size = carrier.body_capacity
    return tuple([header + octets[i * size : (i + 1) * size] for i, header in enumerate(headers)])


def parse_untrusted_fragment(payload: Payload, carrier: Carrier) -> Fragment:
    """Read one payload as far as it can be judged alone.

    Args:
        payload: str on a printable carrier, bytes on an octet carrier.
        carrier: what carried it.

    Raises:
        NotAFragment: longer than the carrier, no header, a character that base64 does not have,
            or a header that no sender writes: the wrong encoding for the carrier, an uncompressed
            message in several fragments, a piece of a message on route 2b, an empty body in a
            message that cannot be empty.
    """
    if len(payload) > carrier.capacity:
        raise NotAFragment(
            f"{len(payload)} {carrier.unit} are more than the {carrier.capacity} that "
            f"{carrier.name} carries"
        )
    if carrier.printable:
        if not isinstance(payload, str):
            raise LocalError(f"{carrier.name} is printable: its payloads are str, not bytes")
        text = payload.encode("ascii", "replace")
        if text.translate(None, _BASE64_CHARACTERS):
            raise NotAFragment(_describe_foreign_character(payload))
        try:
            header = binascii.a2b_base64(text[:HEADER_CHARS], strict_mode=True)
        except binascii.Error:
            header = b""
        if len(header) != HEADER_OCTETS:
            header = header_octets_of_text(text[:HEADER_CHARS])
        fragment = Fragment(int.from_bytes(header, "big"), text[HEADER_CHARS:])
        plain = _TEXT_ZLIB
    else:
        if not isinstance(payload, bytes):
            raise LocalError(f"{carrier.name} takes any octets: its payloads are bytes, not str")
        if len(payload) < HEADER_OCTETS:
            raise NotAFragment(f"{len(payload)} octets are too few for a header")
        header = payload[:HEADER_OCTETS]
        fragment = Fragment(int.from_bytes(header, "big"), payload[HEADER_OCTETS:])
        plain = _OCTETS_ZLIB
    # Nothing more can be wrong with a piece of a zlib message.
    if fragment.header_bits & _KIND_MASK != plain or not fragment.body or carrier is ROUTE_2B:
        _check_header(fragment, carrier)
    return fragment


def _check_header(fragment: Fragment, carrier: Carrier) -> None:
    header = fragment.header
    if header.base64 != carrier.printable:
        says = "base64" if header.base64 else "no encoding"
        raise NotAFragment(
            f"the header says {says}, but {carrier.name} carries "
            f"{'base64' if carrier.printable else 'raw octets'} only"
        )
    if carrier is ROUTE_2B and (header.index or not header.last):
        raise NotAFragment(
            f"the header says index {header.index}, {'last' if header.last else 'not last'}, but "
            "a message on route 2b is one piece: index 0, the last"
        )
    if header.compression is Compression.NONE and (header.index or not header.last):
        raise NotAFragment(
            f"the header says index {header.index}, {'last' if header.last else 'not last'}, and "
            "no compression, but an uncompressed message is exactly one fragment"
        )
    if not fragment.body and header.compression is not Compression.NONE:
        raise NotAFragment("the fragment has no body: only an empty uncompressed message has none")


def _describe_foreign_character(payload: str) -> str:
    for position, character in enumerate(payload):
        if not character.isascii() or character.encode() not in _BASE64_CHARACTERS:
            return (
                f"character {position + 1} is {character!r}, which is not of the base64 alphabet "
                "(A-Z a-z 0-9 + /)"
            )
    return "not of the base64 alphabet"
