"""The compact form of every captured OpenADR message."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from openadr_xml import canonical, compact
from openadr_xml.namespaces import PREFIXES


def test_every_message_becomes_smaller_and_stays_equal(reference_vectors: Path) -> None:
    files = sorted((reference_vectors / "openadr").glob("*.xml"))
    assert files
    for file in files:
        xml = file.read_bytes()
        small = compact(xml)
        assert len(small) < len(xml), file.name
        assert canonical(small) == canonical(xml), file.name
        # The standard library agrees; its strip_text also trims values, alike on both sides.
        assert _canonicalize(small) == _canonicalize(xml), file.name
        # The namespaces of OpenADR have their prefixes, declared once, on the root.
        root_end = small.index(b">")
        assert b"xmlns" not in small[root_end:], file.name
        for namespace, prefix in PREFIXES.items():
            if f'"{namespace}"'.encode() in small:
                assert f' xmlns:{prefix}="{namespace}"'.encode() in small[:root_end], file.name


def _canonicalize(xml: bytes) -> str:
    return ElementTree.canonicalize(xml.decode(), strip_text=True, rewrite_prefixes=True)
