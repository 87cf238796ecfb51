"""The namespaces of OpenADR 2.0b and the one-letter prefixes of the compact form."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_letters
from types import MappingProxyType
from typing import Final

XML: Final = "http://www.w3.org/XML/1998/namespace"
XML_SIGNATURE: Final = "http://www.w3.org/2000/09/xmldsig#"
XML_SCHEMA_INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"

PREFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "http://openadr.org/oadr-2.0b/2012/07": "o",
        "http://docs.oasis-open.org/ns/energyinterop/201110": "e",
        "http://docs.oasis-open.org/ns/energyinterop/201110/payloads": "p",
        "urn:ietf:params:xml:ns:icalendar-2.0": "x",
        "urn:ietf:params:xml:ns:icalendar-2.0:stream": "s",
        "http://docs.oasis-open.org/ns/emix/2011/06": "m",
        "http://docs.oasis-open.org/ns/emix/2011/06/power": "w",
        "http://docs.oasis-open.org/ns/emix/2011/06/siscale": "c",
        XML_SCHEMA_INSTANCE: "i",
        "http://www.w3.org/2005/Atom": "a",
        "http://www.opengis.net/gml/3.2": "g",
        "http://naesb.org/espi": "n",
        "urn:un:unece:uncefact:codelist:standard:5:ISO42173A:2010-04-07": "u",
    }
)
"""Namespace to prefix, in the order of the declarations on the root element.

The preset dictionaries of the tunnel are made with it: another letter or order still means the
same, but compresses worse.
"""

FREE_PREFIXES: Final = tuple(letter for letter in ascii_letters if letter not in PREFIXES.values())
"""For other namespaces, in this order; when they are used up, n1, n2 and so on follow."""
