"""Choosing the substrings of a corpus that save most, within a number of octets.

A model of DEFLATE instead of a run of it: a zlib library may be built to compress differently, and
the dictionary must come out the same everywhere. A document is a sequence of tokens. What a
dictionary saves on it is counted once per document, since later occurrences are matched inside
the document itself: for each token that is in the dictionary, its literals less one match; for each
pair of neighbours that are neighbours in the dictionary too, the match that need not begin anew.
That makes the choice a weighted cover, which a greedy choice solves well.

Source: the idea of zstd's COVER (Liao, Petri, Moffat, Wirth, "Effective construction of relative
Lempel-Ziv dictionaries", WWW 2016), with tokens for its fixed-length substrings.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LITERAL_BITS: Final = 6.5
MATCH_BITS: Final = 24.0
ORDERS: Final = (1, 2, 4, 8, 16)
"""Lengths of runs, in tokens, that are looked at. When a dictionary has the runs of n tokens of a
document but no longer ones, a match is needed for every n tokens; so having those of 2n too saves
MATCH_BITS / 2n a token."""

# Finer than tags, so that styles which differ in prefixes share the local names.
_TOKEN: Final = re.compile(
    r"""
    \s+
    | </?(?:[\w.-]+:)?           # the opening of a tag, with its prefix
    | \sxmlns(?::[\w.-]+)?="     # a declaration up to its value
    | [\w:/.#-]{12,}"            # a long attribute value: a namespace
    | [\w.-]+(?:\s?/)?>          # a local name that ends its tag
    | [^<>\s"]+                  # texts and the rest
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
# Values that never come twice: they part what stands before from what follows.
_UNIQUE: Final = re.compile(
    r"""
    [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}
    | (?<=>)[0-9a-f]{20}(?=<)
    | (?<=>)\w+_[0-9a-f]{6}(?=<)
    | \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?
    | (?<=>)-?\d[\d.]+(?=<)
    """,
    re.VERBOSE,
)
_BREAK: Final = "\0"

Item = tuple[str, ...]
"""A run of tokens."""


@dataclass(frozen=True, slots=True)
class Document:
    """Text with the weight that its savings count with."""

    text: str
    weight: float


def tokenise(text: str) -> list[str]:
    """Cut a text into tokens; what never comes twice becomes a break."""
    return _TOKEN.findall(_UNIQUE.sub(_BREAK, text))


def _items(tokens: Sequence[str]) -> Iterator[list[Item]]:
    """For each token, the runs of each order that end with it and have no break in them."""
    length = 0
    for place, token in enumerate(tokens):
        length = 0 if _BREAK in token else length + 1
        yield [tuple(tokens[place + 1 - order : place + 1]) for order in ORDERS if order <= length]


def _value(item: Item) -> float:
    """What a document saves by an item: see ORDERS."""
    if len(item) > 1:
        return MATCH_BITS / len(item)
    return max(0.0, LITERAL_BITS * len(item[0]) - MATCH_BITS)


class Selection:
    """The greedy choice of runs of tokens."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._numbers: dict[Item, int] = {}
        # Indexed by item number: what it still saves on the whole corpus.
        self._worth: list[float] = []
        self._tokens: list[list[str]] = []
        # For each document and token, the items that come there for the first time.
        self._first: list[list[tuple[int, ...]]] = []
        for document in documents:
            self._add(tokenise(document.text), document.weight)

    def _add(self, tokens: list[str], weight: float) -> None:
        seen: set[Item] = set()
        first: list[tuple[int, ...]] = []
        for group in _items(tokens):
            new = [item for item in group if item not in seen]
            seen.update(new)
            for item in new:
                if item not in self._numbers:
                    self._numbers[item] = len(self._worth)
                    self._worth.append(0.0)
                self._worth[self._numbers[item]] += weight * _value(item)
            first.append(tuple(self._numbers[item] for item in new))
        self._tokens.append(tokens)
        self._first.append(first)

    def choose(self, octets: int, price: float) -> list[str]:
        """Choose runs until they fill so many octets, or none is worth its price any more.

        Args:
            octets: the room.
            price: what one octet of the dictionary must save, in weighted bits of the corpus.

        Returns:
            The runs, most valuable first.
        """
        chosen: list[str] = []
        room = octets
        # A document's best gain only falls as runs are chosen: one that is still the best when it
        # is looked at again is the best of all.
        ranking = [(-float("inf"), number) for number in range(len(self._tokens))]
        while ranking and room > 0:
            _, number = ranking[0]
            gain, start, end = self._best_run(number, price)
            if gain <= 0:
                heapq.heappop(ranking)
                continue
            heapq.heapreplace(ranking, (-gain, number))
            if ranking[0][1] == number:
                run = self._take(number, start, end)
                chosen.append(run[:room])
                room -= len(run)
        return chosen

    def _best_run(self, number: int, price: float) -> tuple[float, int, int]:
        """Find the run of a document with the largest gain less price (Kadane's algorithm)."""
        best = (0.0, 0, 0)
        total, start = 0.0, 0
        worth = self._worth
        tokens = self._tokens[number]
        for place, items in enumerate(self._first[number]):
            if total <= 0:
                total, start = 0.0, place
            for item in items:
                total += worth[item]
            if tokens[place] != _BREAK:
                total -= price * len(tokens[place])
            if total > best[0]:
                best = (total, start, place + 1)
        return best

    def _take(self, number: int, start: int, end: int) -> str:
        """Take a run: what it covers saves nothing any more."""
        run = [token.replace(_BREAK, "") for token in self._tokens[number][start:end]]
        run = [token for token in run if token]
        # What is left on both sides of a break comes together, which may cover more.
        for group in _items(run):
            for item in group:
                if item in self._numbers:
                    self._worth[self._numbers[item]] = 0.0
        return "".join(run)
