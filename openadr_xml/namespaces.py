"""The namespaces of OpenADR 2.0b and their prefixes in the compact form."""

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
        "http://openadr.org/oadr-2.0b/2012/07": "oadr",
        "http://docs.oasis-open.org/ns/energyinterop/201110": "ei",
        "http://docs.oasis-open.org/ns/energyinterop/201110/payloads": "pyld",
        "urn:ietf:params:xml:ns:icalendar-2.0": "xcal",
        "urn:ietf:params:xml:ns:icalendar-2.0:stream": "strm",
        "http://docs.oasis-open.org/ns/emix/2011/06": "emix",
        "http://docs.oasis-open.org/ns/emix/2011/06/power": "power",
        "http://docs.oasis-open.org/ns/emix/2011/06/siscale": "scale",
        XML_SCHEMA_INSTANCE: "xsi",
        "http://www.w3.org/2005/Atom": "atom",
        "http://www.opengis.net/gml/3.2": "gml",
        "http://naesb.org/espi": "gb",
        "urn:un:unece:uncefact:codelist:standard:5:ISO42173A:2010-04-07": "clm5ISO42173A",
    }
)
"""Namespace to prefix, in the order of the declarations on the root element.

They are those of OpenADR's own schema files, and the preset dictionaries of the tunnel are made
with them. Single letters would be shorter, but then the untouched form of the many stacks that
use these prefixes could not share the dictionary's text with the compact form: measured, both
forms need fewer fragments this way. Another prefix or order means the same and compresses worse.
"""

FREE_PREFIXES: Final = tuple(letter for letter in ascii_letters if letter not in PREFIXES.values())
"""For other namespaces, in this order; when they are used up, n1, n2 and so on follow."""
