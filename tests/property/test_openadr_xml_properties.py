"""openadr_xml on generated documents: equal for an independent reader, and never an error."""

from __future__ import annotations

import io
import re
from typing import Any, cast
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from hypothesis import given
from hypothesis import strategies as st

from openadr_xml import compact

NAMESPACES = (
    "",
    "http://openadr.org/oadr-2.0b/2012/07",
    "http://docs.oasis-open.org/ns/energyinterop/201110",
    "urn:ietf:params:xml:ns:icalendar-2.0",
    "http://www.w3.org/2001/XMLSchema-instance",
    "urn:example:1",
    "urn:example:2",
)
PREFIXES = ("", "a", "oadr", "xcal", "ns2", "ei")
LAYOUT = st.sampled_from(("", "", "\n  ", " ", "\t"))
TEXTS = st.one_of(
    st.sampled_from(
        ("", "x", " x ", " ", "ei:T", "ns2:a b", "http://a:1", "a:b/oadr:c", "]]>", "\r\n")
    ),
    # Beyond ASCII nothing that could be part of a name, so that _References stays simple.
    st.text("ab:. /<&\u00b2\u00a0\u00d7", max_size=5),
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    pieces: list[str] = []
    if draw(st.booleans()):
        pieces.append('<?xml version="1.0" encoding="UTF-8"?>\n')
    if draw(st.booleans()):
        pieces.append("<!-- before -->\n")
    _element(draw, pieces, {"": ""}, 0)
    if draw(st.booleans()):
        pieces.append("\n<?after it?>\n")
    return "".join(pieces).encode()


def _element(draw: st.DrawFn, pieces: list[str], outer: dict[str, str], depth: int) -> None:
    scope = dict(outer)
    declared = draw(
        st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(NAMESPACES), max_size=3)
    )
    declared = {prefix: name for prefix, name in declared.items() if name or not prefix}
    scope.update(declared)
    prefix = draw(st.sampled_from(sorted(scope)))
    name = f"{prefix}:" * bool(prefix) + draw(st.sampled_from(("venID", "type", "b")))
    attributes: dict[tuple[str, str], str] = {}
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from([p for p in sorted(scope) if p] or [""]))
        local = draw(st.sampled_from(("type", "Id")))
        attributes[scope[key] if key else "", local] = (
            f" {key}:{local}={quoteattr(draw(TEXTS))}"
            if key
            else f" {local}={quoteattr(draw(TEXTS))}"
        )
    space = draw(st.sampled_from(("", "", "", ' xml:space="preserve"', ' xml:space="default"')))
    pieces.append(f"<{name}")
    pieces.extend(f" xmlns{':' * bool(p)}{p}={quoteattr(n)}" for p, n in declared.items())
    pieces.extend(attributes.values())
    pieces.append(f"{space}>")
    for _ in range(draw(st.integers(0, 3)) if depth < 3 else 0):
        pieces.append(draw(LAYOUT))
        kind = draw(st.sampled_from(("element", "element", "element", "comment", "text", "cdata")))
        if kind == "element":
            _element(draw, pieces, scope, depth + 1)
        elif kind == "comment":
            pieces.append(draw(st.sampled_from(("<!-- c -->", "<?p i?>"))))
        elif kind == "cdata":
            pieces.append(f"<![CDATA[{draw(TEXTS).replace(']]>', '')}]]>")
        else:
            pieces.append(escape(draw(TEXTS)))
    pieces.append(draw(LAYOUT) if draw(st.booleans()) else escape(draw(TEXTS)))
    pieces.append(f"</{name}>")


def _meaning(xml: bytes) -> Any:
    """Read a document with the standard library's parser and this test's own idea of layout."""
    builder = ElementTree.TreeBuilder(insert_comments=True, insert_pis=True)
    parser = ElementTree.XMLParser(target=builder)
    return _meaning_of(ElementTree.parse(io.BytesIO(xml), parser).getroot(), False)


def _meaning_of(element: ElementTree.Element, preserve: bool) -> Any:
    if not isinstance(element.tag, str):
        return (element.tag.__name__, element.text)
    space = element.get("{http://www.w3.org/XML/1998/namespace}space")
    preserve = space == "preserve" if space else preserve
    texts = [element.text or "", *((child.tail or "") for child in element)]
    if (
        any(isinstance(child.tag, str) for child in element)
        and not preserve
        and not "".join(texts).strip(" \t\r\n")
    ):
        texts = [""] * len(texts)
    children = [_meaning_of(child, preserve) for child in element]
    return (element.tag, element.attrib, texts, children)


class _References:
    """What the prefixes in texts and attribute values stand for; a target of an XML parser."""

    def __init__(self) -> None:
        self.found: set[tuple[str, str | None]] = set()
        self._scopes: list[dict[str, str]] = [{}]
        self._fresh: dict[str, str] = {}
        self._texts: list[str] = []

    def start_ns(self, prefix: str, namespace: str) -> None:
        self._fresh[prefix] = namespace

    def start(self, _: str, attributes: dict[str, str]) -> None:
        self._scopes.append({**self._scopes[-1], **self._fresh})
        self._fresh = {}
        self._texts.append("")
        for value in attributes.values():
            self._note(value)

    def data(self, text: str) -> None:
        self._texts[-1] += text

    def comment(self, _: str) -> None:
        self._text_ends()

    def pi(self, _: str, __: str) -> None:
        self._text_ends()

    def end(self, _: str) -> None:
        self._note(self._texts.pop())
        self._scopes.pop()

    def close(self) -> set[tuple[str, str | None]]:
        return self.found

    def _text_ends(self) -> None:
        if self._texts:
            self._note(self._texts[-1])
            self._texts[-1] = ""

    def _note(self, text: str) -> None:
        for prefix in re.findall(r"([A-Za-z]\w*):(?=[A-Za-z])", text):
            self.found.add((prefix, self._scopes[-1].get(prefix)))


def _references(xml: bytes) -> set[tuple[str, str | None]]:
    parser = ElementTree.XMLParser(target=_References())
    parser.feed(xml)
    return cast(set[tuple[str, str | None]], parser.close())


@given(documents())
def test_the_compact_form_means_the_same(xml: bytes) -> None:
    small = compact(xml)
    assert _meaning(small) == _meaning(xml)
    assert compact(small) == small


@given(documents())
def test_prefixes_in_content_keep_their_meaning(xml: bytes) -> None:
    assert _references(xml) == _references(compact(xml))


@given(st.binary(max_size=60) | st.text("<>/&;!?-[]abx:=\"' \n", max_size=40).map(str.encode))
def test_any_octets(octets: bytes) -> None:
    _check(octets)


@given(documents(), st.data())
def test_damaged_documents(xml: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(xml) - 1))
    _check(xml[:place] + data.draw(st.binary(max_size=3)) + xml[place + 1 :])


def _check(octets: bytes) -> None:
    small = compact(octets)
    if small is octets:
        return
    try:
        meaning = _meaning(octets)
    except ElementTree.ParseError:
        # The standard library's parser takes fewer names, those of XML's fourth edition.
        return
    assert _meaning(small) == meaning
