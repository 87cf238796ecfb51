"""Makes hostile inputs from good ones: flips, cuts, splices, insertions, edges of numbers.

The same seed always makes the same input, so that a number is enough to make it again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Final

MAX_INPUT_OCTETS: Final = 131_072
"""No input is longer: twice the longest message that any decoder takes."""

_EDGES: Final = (0, 1, 0x7E, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000)
_MORE_EDGES: Final = (0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)
_NUMBERS: Final = (
    b"0", b"-1", b"00", b"1e999", b"nan", b"-inf", b"0.1", b"255", b"256", b"2048", b"65536",
    b"2147483648", b"4294967296", b"9223372036854775808", b"18446744073709551615",
    b"18446744073709551616", b"9" * 400, b"9" * 5000, "\u0663".encode(), b"1_0", b"0x10",
)  # fmt: skip
_TOKENS: Final = (
    b"\x00", b"\xff", b"\r\n", b"\n\n", b" ", b"\t", b"=", b"==", b":", b"/", b"%00", b"'", b'"',
    b"\\", b"\\ud800", "\u00e9".encode(), "\u2028".encode(), "\U0001f600".encode(), b"\xc0\x80",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"<", b"&", b"&#0;", b"&#xD800;", b"&amp;",
    b"<!-- -->", b"<?a b?>", b"<![CDATA[ ]]>", b'<!DOCTYPE a [<!ENTITY e "e">]>', b"&e;",
    b' xmlns="urn:a"', b' xmlns:a="urn:a"', b' xml:space="preserve"', b"{", b"}", b"[", b"]",
    b"null", b"true", b"{}", b"[]", b'""', b"[[", b"# ", b"-----BEGIN CERTIFICATE-----\n",
)  # fmt: skip
_DIGITS: Final = re.compile(rb"[0-9]+")
_WORDS: Final = re.compile(rb"[A-Za-z_][\w.:-]*")


def mutate(good: bytes, other: bytes, chance: random.Random) -> bytes:
    """Damage an input in one to six ways, most often in few.

    Args:
        good: where to begin.
        other: another good input, from which pieces are taken.
        chance: decides what is done, and where.
    """
    octets = good
    for _ in range(min(6, 1 + int(chance.expovariate(0.8)))):
        octets = chance.choices(_WAYS, _WEIGHTS)[0](octets, other, chance)[:MAX_INPUT_OCTETS]
    return octets


def _range(octets: bytes, chance: random.Random) -> tuple[int, int]:
    """Choose a place and a length: short ones as often as long ones."""
    start = chance.randint(0, len(octets))
    longest = len(octets) - start
    length = min(longest, 1 << chance.randint(0, max(1, longest.bit_length())))
    return start, start + length


def _flip(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    if not octets:
        return b"\x80"
    changed = bytearray(octets)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwrite(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(octets))
    new = chance.randbytes(chance.randint(1, 4))
    return octets[:start] + new + octets[start + len(new) :]


def _cut(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    start, end = _range(octets, chance)
    return octets[:start] + octets[end:]


def _cut_short(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    return octets[: chance.randint(0, len(octets))]


def _double(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    start, end = _range(octets, chance)
    return octets[:end] + octets[start:]


def _repeat(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    start, end = _range(octets, chance)
    room = max(1, min(8192, MAX_INPUT_OCTETS // max(1, end - start)))
    times = chance.choice((2, 3, 16, 255, 256, 300, room))
    return octets[:start] + octets[start:end] * min(times, room) + octets[end:]


def _swap(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    a, b, c = sorted(chance.randint(0, len(octets)) for _ in range(3))
    return octets[:a] + octets[b:c] + octets[a:b] + octets[c:]


def _splice(octets: bytes, other: bytes, chance: random.Random) -> bytes:
    return octets[: chance.randint(0, len(octets))] + other[chance.randint(0, len(other)) :]


def _graft(octets: bytes, other: bytes, chance: random.Random) -> bytes:
    start, end = _range(octets, chance)
    from_start, from_end = _range(other, chance)
    return octets[:start] + other[from_start:from_end] + octets[end:]


def _insert(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(octets))
    return octets[:start] + chance.choice(_TOKENS) + octets[start:]


def _nest(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Open very many brackets or elements, as what reads by recursion fears."""
    start = chance.randint(0, len(octets))
    depth = chance.choice((33, 300, 3000, 20_000))
    return (
        octets[:start]
        + chance.choice((b"[", b"{", b"<a>", b'{"a":', b"(")) * depth
        + octets[start:]
    )


def _edge(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Write an edge of a number's range over one, two, four or eight octets."""
    size = chance.choice((1, 1, 2, 4, 8))
    value = chance.choice((*_EDGES, *_MORE_EDGES)) % (1 << 8 * size)
    start = chance.randint(0, len(octets))
    return octets[:start] + value.to_bytes(size, "big") + octets[start + size :]


def _step(octets: bytes, _other: bytes, chance: random.Random) -> bytes:
    """Add or take away a little of one octet: lengths and counts that are off by one."""
    if not octets:
        return b"\x01"
    place = chance.randrange(len(octets))
    value = (octets[place] + chance.choice((-1, 1, 2, 16))) % 256
    return octets[:place] + bytes([value]) + octets[place + 1 :]


def _number(octets: bytes, other: bytes, chance: random.Random) -> bytes:
    """Replace a number that is written in digits."""
    found = [match.span() for match in _DIGITS.finditer(octets)]
    if not found:
        return _edge(octets, other, chance)
    start, end = chance.choice(found)
    return octets[:start] + chance.choice(_NUMBERS) + octets[end:]


def _word(octets: bytes, other: bytes, chance: random.Random) -> bytes:
    """Replace a word by another one of the two inputs."""
    found = [match.span() for match in _WORDS.finditer(octets)]
    words = [match.group() for match in _WORDS.finditer(other)]
    if not found or not words:
        return _graft(octets, other, chance)
    start, end = chance.choice(found)
    return octets[:start] + chance.choice(words) + octets[end:]


def _lines(octets: bytes, other: bytes, chance: random.Random) -> bytes:
    """Leave out, repeat, move or take over a line."""
    lines = octets.split(b"\n")
    if len(lines) < 3:
        return _swap(octets, other, chance)
    line = chance.choice((lines, other.split(b"\n")))
    taken = chance.choice(line)
    if chance.random() < 0.6:
        del lines[chance.randrange(len(lines))]
    if chance.random() < 0.6:
        lines.insert(chance.randint(0, len(lines)), taken)
    return b"\n".join(lines)


_WAYS: Final[Sequence[Callable[[bytes, bytes, random.Random], bytes]]] = (
    _flip, _overwrite, _cut, _cut_short, _double, _repeat, _swap, _splice, _graft, _insert,
    _nest, _edge, _step, _number, _word, _lines,
)  # fmt: skip
_WEIGHTS: Final = (4, 3, 3, 1, 2, 1, 1, 1, 3, 3, 0.3, 4, 4, 4, 4, 4)
