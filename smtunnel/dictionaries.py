"""The preset dictionaries: text that both ends know, so that a message may refer to it.

A zlib stream names its dictionary by DICTID, the Adler-32 of the dictionary's octets. Dictionaries
are versioned with the specification: a published one never changes, a better one gets the next
number. Which of them the peer has, its capabilities tell.

Source: RFC 1950 section 2.2 (FDICT, DICTID).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from smtunnel.dictionary_1 import DICTIONARY_1, DICTIONARY_1_ID

DICTIONARY_IDS: Final[Mapping[int, int]] = MappingProxyType({1: DICTIONARY_1_ID})
"""The number in the specification, to DICTID."""

DICTIONARIES: Final[Mapping[int, bytes]] = MappingProxyType({DICTIONARY_1_ID: DICTIONARY_1})
"""DICTID to the dictionary's octets: all that this version has."""
