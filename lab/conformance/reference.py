"""The runner's own judgement of payloads that another implementation made."""

from __future__ import annotations

import binascii
import zlib
from typing import Any

from smtunnel import (
    Carrier,
    Compression,
    Fragment,
    MessageAssembly,
    RemoteError,
    parse_untrusted_fragment,
)
from smtunnel.limits import compressed_bound


def carrier_of(word: str) -> Carrier:
    """Read a carrier from its word: t or o, for text or octets, then the capacity.

    Raises:
        ValueError: it is no such word.
    """
    if word[:1] not in ("t", "o") or not word[1:].isdigit():
        raise ValueError(f"{word!r} is not a carrier such as t110 or o1062")
    return Carrier(word, int(word[1:]), printable=word[0] == "t")


def parse_octets(carrier: Carrier, octets: bytes) -> Fragment:
    """Read one payload given as octets, whatever the carrier takes.

    Raises:
        NotAFragment: it is none.
    """
    payload = octets.decode("latin-1") if carrier.printable else octets
    return parse_untrusted_fragment(payload, carrier)


def check_encoding(vector: dict[str, Any], message: bytes, payloads: list[bytes]) -> None:
    """Check that payloads are those of a message, by every rule for a sender.

    Args:
        vector: what was asked: carrier, originator, tunnel_message_id, compression, window_bits.
        message: what was given.
        payloads: what was answered.

    Raises:
        ValueError: they break a rule; the text says which.
    """
    carrier = carrier_of(vector["carrier"])
    assembly = MessageAssembly(max_message_octets=max(1, len(message)))
    stream = b""
    try:
        for place, octets in enumerate(payloads):
            fragment = parse_octets(carrier, octets)
            _check_header(vector, fragment, place, last=place == len(payloads) - 1)
            assembly.add(fragment)
            stream += fragment.body
        if assembly.decode() != message:
            raise ValueError("the payloads decode to another message")
    except RemoteError as error:
        raise ValueError(str(error)) from None
    fits_one = len(message) <= _room(carrier)
    compression = parse_octets(carrier, payloads[0]).header.compression
    if vector["compression"] == "none" and fits_one and compression is not Compression.NONE:
        raise ValueError("asked for no compression of a message that fits one fragment")
    if vector["compression"] == "zlib" and compression is not Compression.ZLIB:
        raise ValueError("asked for zlib, but the header does not say so")
    if compression is Compression.ZLIB:
        # Canonical base64, as decode has found.
        octets = binascii.a2b_base64(stream) if carrier.printable else stream
        _check_stream(octets, len(message), vector["window_bits"])


def _room(carrier: Carrier) -> int:
    return carrier.body_capacity // 4 * 3 if carrier.printable else carrier.body_capacity


def _check_header(vector: dict[str, Any], fragment: Fragment, place: int, *, last: bool) -> None:
    header = fragment.header
    found = (header.originator, header.index, header.tunnel_message_id, header.last)
    wanted = (vector["originator"], place, vector["tunnel_message_id"], last)
    if found != wanted:
        raise ValueError(
            f"payload {place} has originator, index, id, last {tuple(map(int, found))}: "
            f"expected {tuple(map(int, wanted))}"
        )


def _check_stream(stream: bytes, message_octets: int, window_bits: int) -> None:
    if len(stream) > compressed_bound(message_octets):
        raise ValueError(
            f"the stream has {len(stream)} octets: for a message of {message_octets} it may have "
            f"{compressed_bound(message_octets)}"
        )
    said = (stream[0] >> 4) + 8
    if said > window_bits:
        raise ValueError(f"the stream says window bits {said}, allowed were {window_bits}")
    # One octet at a time, so that zlib must look into its window and not into the output.
    inflater = zlib.decompressobj(window_bits)
    try:
        for place in range(len(stream)):
            inflater.decompress(stream[place : place + 1])
    except zlib.error as error:
        raise ValueError(f"a receiver with window bits {window_bits} fails: {error}") from None
