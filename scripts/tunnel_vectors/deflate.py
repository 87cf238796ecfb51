"""Zlib streams made by hand: the same octets everywhere, and also those that no zlib would write.

zlib's builds compress the same message to different streams; the vectors need streams that never
change. This compressor is small and simple, not good.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

Token: TypeAlias = int | tuple[int, int]
"""A literal octet, or a match: its length (3 to 258) and distance (1 to 32,768)."""

BlockKind: TypeAlias = Literal["stored", "fixed", "dynamic"]

# The default, so that an implementation with little memory can be asked nearly everything.
SMALLEST_WINDOW_BITS: Final = 9

_END: Final = 256
_MIN_MATCH: Final = 3
_MAX_MATCH: Final = 258
_MAX_STORED: Final = 65_535
_CANDIDATES: Final = 64
# RFC 1951 section 3.2.5.
_LENGTH_BASES: Final = (
    *(3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115),
    *(131, 163, 195, 227, 258),
)
_LENGTH_EXTRAS: Final = (*(0,) * 8, *(1,) * 4, *(2,) * 4, *(3,) * 4, *(4,) * 4, *(5,) * 4, 0)
_LENGTHS: Final = tuple(zip(range(257, 286), _LENGTH_BASES, _LENGTH_EXTRAS, strict=True))
_DISTANCE_BASES: Final = (
    *(1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025),
    *(1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577),
)
_DISTANCES: Final = tuple(
    (symbol, base, max(0, symbol // 2 - 1)) for symbol, base in enumerate(_DISTANCE_BASES)
)
_CODE_LENGTH_ORDER: Final = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
# A complete code for the 19 code length symbols, the same for every block: 13 of 4 bits, 6 of 5.
_CODE_LENGTH_LENGTHS: Final = (4,) * 13 + (5,) * 6


class BitWriter:
    """Octets filled from the least significant bit, as DEFLATE has it."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._bits = 0
        self._count = 0

    def number(self, value: int, width: int) -> None:
        """Write a number, least significant bit first."""
        self._bits |= value << self._count
        self._count += width
        while self._count >= 8:
            self._octets.append(self._bits & 0xFF)
            self._bits >>= 8
            self._count -= 8

    def code(self, code: tuple[int, int]) -> None:
        """Write a Huffman code (value, width), most significant bit first."""
        value, width = code
        self.number(int(f"{value:0{width}b}"[::-1], 2), width)

    def align(self) -> None:
        """Fill the octet begun with zero bits."""
        if self._count:
            self.number(0, 8 - self._count)

    def octets(self, octets: bytes) -> None:
        """Write whole octets; align first."""
        self._octets += octets

    def to_bytes(self) -> bytes:
        """Return all that was written, the last octet filled with zero bits."""
        self.align()
        return bytes(self._octets)


def find_matches(message: bytes, *, dictionary: bytes = b"", window: int = 32_768) -> list[Token]:
    """Split a message greedily into literals and matches, also into a preset dictionary."""
    text = dictionary + message
    places: dict[bytes, list[int]] = {}
    tokens: list[Token] = []
    indexed = 0
    at = len(dictionary)
    while at < len(text):
        for place in range(indexed, at):
            places.setdefault(text[place : place + _MIN_MATCH], []).append(place)
        indexed = at
        length, distance = 0, 0
        for place in reversed(places.get(text[at : at + _MIN_MATCH], [])[-_CANDIDATES:]):
            if at - place > window:
                break
            found = _common(text, place, at)
            if found > length:
                length, distance = found, at - place
            if length == _MAX_MATCH:
                break
        tokens.append((length, distance) if length >= _MIN_MATCH else text[at])
        at += length if length >= _MIN_MATCH else 1
    return tokens


def _common(text: bytes, place: int, at: int) -> int:
    most = min(_MAX_MATCH, len(text) - at)
    length = 0
    while length < most and text[place + length] == text[at + length]:
        length += 1
    return length


def write_stored(out: BitWriter, octets: bytes, *, final: bool) -> None:
    """Write one stored block of at most 65,535 octets. Source: RFC 1951 section 3.2.4."""
    out.number(int(final), 3)
    out.align()
    out.octets(len(octets).to_bytes(2, "little") + (len(octets) ^ 0xFFFF).to_bytes(2, "little"))
    out.octets(octets)


def write_fixed(out: BitWriter, tokens: Iterable[Token], *, final: bool) -> None:
    """Write one block with the fixed codes. Source: RFC 1951 section 3.2.6."""
    out.number(int(final) | 1 << 1, 3)
    literals = _canonical_codes((8,) * 144 + (9,) * 112 + (7,) * 24 + (8,) * 8)
    _write_tokens(out, tokens, literals, _canonical_codes((5,) * 32))


def write_dynamic(out: BitWriter, tokens: Sequence[Token], *, final: bool) -> None:
    """Write one block with codes of its own. Source: RFC 1951 section 3.2.7."""
    out.number(int(final) | 2 << 1, 3)
    # Two codes of each sort at least: a single one is an incomplete code, which some refuse.
    literal_counts: Counter[int] = Counter({0: 1, _END: 1})
    distance_counts: Counter[int] = Counter({0: 1, 1: 1})
    for token in tokens:
        if isinstance(token, tuple):
            literal_counts[_pick(_LENGTHS, token[0])[0]] += 1
            distance_counts[_pick(_DISTANCES, token[1])[0]] += 1
        else:
            literal_counts[token] += 1
    literal_lengths = _code_lengths(literal_counts, 286)
    distance_lengths = _code_lengths(distance_counts, 30)
    out.number(len(literal_lengths) - 257, 5)
    out.number(len(distance_lengths) - 1, 5)
    out.number(len(_CODE_LENGTH_ORDER) - 4, 4)
    for symbol in _CODE_LENGTH_ORDER:
        out.number(_CODE_LENGTH_LENGTHS[symbol], 3)
    codes = _canonical_codes(_CODE_LENGTH_LENGTHS)
    for symbol, extra, width in _run_lengths(literal_lengths + distance_lengths):
        out.code(codes[symbol])
        out.number(extra, width)
    _write_tokens(
        out, tokens, _canonical_codes(literal_lengths), _canonical_codes(distance_lengths)
    )


def _pick(table: Sequence[tuple[int, int, int]], value: int) -> tuple[int, int, int]:
    return max((row for row in table if row[1] <= value), key=lambda row: row[1])


def _write_tokens(
    out: BitWriter,
    tokens: Iterable[Token],
    literals: Sequence[tuple[int, int]],
    distances: Sequence[tuple[int, int]],
) -> None:
    for token in tokens:
        if isinstance(token, tuple):
            for table, codes, value in (
                (_LENGTHS, literals, token[0]),
                (_DISTANCES, distances, token[1]),
            ):
                symbol, base, extra = _pick(table, value)
                out.code(codes[symbol])
                out.number(value - base, extra)
        else:
            out.code(literals[token])
    out.code(literals[_END])


def _code_lengths(counts: Counter[int], symbols: int) -> tuple[int, ...]:
    lengths = [0] * symbols
    heap = [(count, symbol, (symbol,)) for symbol, count in sorted(counts.items())]
    heapq.heapify(heap)
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        members = first[2] + second[2]
        for symbol in members:
            lengths[symbol] += 1
        heapq.heappush(heap, (first[0] + second[0], min(members), members))
    if max(lengths) > 15:
        raise ValueError("a code is longer than 15 bits: make the block shorter")
    return tuple(lengths)


def _canonical_codes(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Give each symbol its code and width. Source: RFC 1951 section 3.2.2."""
    codes = [(0, 0)] * len(lengths)
    code, previous = 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        if length:
            code <<= length - previous
            codes[symbol] = (code, length)
            code, previous = code + 1, length
    return codes


def _run_lengths(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    runs: list[tuple[int, int, int]] = []
    at = 0
    while at < len(lengths):
        value = lengths[at]
        run = 1
        while at + run < len(lengths) and lengths[at + run] == value:
            run += 1
        at += run
        if value == 0:
            while run >= 11:
                taken = min(run, 138)
                runs.append((18, taken - 11, 7))
                run -= taken
            if run >= 3:
                runs.append((17, run - 3, 3))
                run = 0
        else:
            runs.append((value, 0, 0))
            run -= 1
            while run >= 3:
                taken = min(run, 6)
                runs.append((16, taken - 3, 2))
                run -= taken
        runs += [(value, 0, 0)] * run
    return runs


def zlib_header(
    window_bits: int = SMALLEST_WINDOW_BITS, *, dictionary: bytes | None = None
) -> bytes:
    """Build CMF, FLG and, with a dictionary, DICTID. Source: RFC 1950 section 2.2."""
    first = (window_bits - 8) << 4 | 8
    second = 0 if dictionary is None else 0x20
    second += -(first << 8 | second) % 31
    identifier = b"" if dictionary is None else zlib.adler32(dictionary).to_bytes(4, "big")
    return bytes([first, second]) + identifier


def zlib_stream(
    message: bytes,
    kind: BlockKind = "fixed",
    *,
    window_bits: int = SMALLEST_WINDOW_BITS,
    dictionary: bytes | None = None,
    block_octets: int = _MAX_STORED,
) -> bytes:
    """Compress a message into one zlib stream whose blocks are all of one kind."""
    out = BitWriter()
    starts = range(0, max(1, len(message)), block_octets)
    before = dictionary or b""
    for start in starts:
        piece = message[start : start + block_octets]
        final = start == starts[-1]
        if kind == "stored":
            write_stored(out, piece, final=final)
        else:
            tokens = find_matches(piece, dictionary=before, window=1 << window_bits)
            (write_fixed if kind == "fixed" else write_dynamic)(out, tokens, final=final)
        before += piece
    return wrap(out.to_bytes(), message, window_bits=window_bits, dictionary=dictionary)


def wrap(
    deflated: bytes,
    message: bytes,
    *,
    window_bits: int = SMALLEST_WINDOW_BITS,
    dictionary: bytes | None = None,
) -> bytes:
    """Put zlib's header before raw DEFLATE data and the Adler-32 of a message behind it."""
    header = zlib_header(window_bits, dictionary=dictionary)
    return header + deflated + zlib.adler32(message).to_bytes(4, "big")
