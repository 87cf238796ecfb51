"""The same messages as other stacks write them: prefixes, declarations, layout.

Each style is what a common XML library does with OpenADR's schema: it is about serialisers, not
about anybody's messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from lxml import etree

from dictionary_maker.elaboration import EI, OADR, POWER, PYLD, XCAL
from dictionary_maker.picking import Picker
from openadr_xml.canonical import drop_layout

STRM: Final = "urn:ietf:params:xml:ns:icalendar-2.0:stream"
EMIX: Final = "http://docs.oasis-open.org/ns/emix/2011/06"
SCALE: Final = "http://docs.oasis-open.org/ns/emix/2011/06/siscale"
ATOM: Final = "http://www.w3.org/2005/Atom"
GML: Final = "http://www.opengis.net/gml/3.2"
DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
DSIG11: Final = "http://www.w3.org/2009/xmldsig11#"
PROPERTIES: Final = "http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties"
CURRENCY: Final = "urn:un:unece:uncefact:codelist:standard:5:ISO42173A:2010-04-07"
ESPI: Final = "http://naesb.org/espi"
XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
XSD: Final = "http://www.w3.org/2001/XMLSchema"

CONVENTIONAL: Final[Mapping[str, str]] = {
    OADR: "oadr",
    EI: "ei",
    PYLD: "pyld",
    EMIX: "emix",
    XCAL: "xcal",
    STRM: "strm",
    POWER: "power",
    SCALE: "scale",
    GML: "gml",
    ATOM: "atom",
    XSI: "xsi",
    DSIG: "ds",
}
"""The prefixes that the schema files themselves use."""

_BINDING_NAMESPACES: Final = (
    DSIG11, OADR, CURRENCY, PYLD, EI, SCALE, EMIX, STRM, XCAL, POWER, ATOM, GML, PROPERTIES, ESPI
)  # fmt: skip
"""All that the schema touches, in the order of its own declarations."""

_FRACTION: Final = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{6}Z$")
_HOURS: Final = re.compile(r"^PT(\d+)H(?:(\d+)M)?$")
_WHOLE: Final = re.compile(r"^(\d+)\.0$")

Scope = dict[str, str]
"""Namespace to prefix; the default namespace has the empty prefix."""

Bind = Callable[[str, int, Scope], str]
"""Chooses a prefix for a namespace that is not in scope, at a depth of the tree."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a document is laid out.

    ``indent`` is None for everything on one line; ``empty`` is what ends an empty element.
    """

    declaration: str = ""
    indent: str | None = None
    empty: str = "/>"


def _write(root: etree._Element, scope: Scope, bind: Bind, layout: Layout, extra: str = "") -> str:
    """Write a tree: what scope holds is declared on the root, the rest where bind is asked."""
    declared = "".join(
        f' xmlns{":" if prefix else ""}{prefix}="{namespace}"'
        for namespace, prefix in scope.items()
    )
    body = "".join(_pieces(root, scope, bind, layout, declared + extra, 1))
    return layout.declaration + body


def _pieces(
    element: etree._Element, scope: Scope, bind: Bind, layout: Layout, extra: str, depth: int
) -> Iterator[str]:
    scope = dict(scope)
    added: list[str] = []

    def name_of(name: str, *, attribute: bool = False) -> str:
        parts = etree.QName(name)
        namespace = parts.namespace or ""
        if namespace not in scope or (attribute and not scope[namespace]):
            prefix = bind(namespace, depth, scope)
            if attribute and not prefix:
                # The default namespace is not for attributes.
                prefix = CONVENTIONAL[namespace]
            for other in [key for key, value in scope.items() if value == prefix]:
                del scope[other]
            scope[namespace] = prefix
            added.append(f' xmlns{":" if prefix else ""}{prefix}="{namespace}"')
        prefix = scope[namespace]
        return f"{prefix}:{parts.localname}" if prefix else parts.localname

    tag = name_of(str(element.tag))
    attributes = "".join(
        f' {name_of(str(name), attribute=True)}="{value!s}"' for name, value in element.items()
    )
    start = f"<{tag}{attributes}{extra}{''.join(added)}"
    text = (element.text or "").replace("&", "&amp;").replace("<", "&lt;")
    if not len(element) and not text:
        yield start + layout.empty
        return
    yield f"{start}>{text}"
    for child in element:
        if layout.indent is not None:
            yield "\n" + layout.indent * depth
        yield from _pieces(child, scope, bind, layout, "", depth + 1)
    if len(element) and layout.indent is not None:
        yield "\n" + layout.indent * (depth - 1)
    yield f"</{tag}>"


def _conventional(namespace: str, depth: int, scope: Scope) -> str:
    del depth, scope
    return CONVENTIONAL.get(namespace, "ext")


def _used(root: etree._Element) -> list[str]:
    names = [str(n) for e in root.iter(etree.Element) for n in (e.tag, *e.keys())]
    return list(dict.fromkeys(etree.QName(n).namespace or "" for n in names))


@cache
def _editor() -> str:
    """The editor that OpenADR's schema was written with, as it names itself there."""
    schema = files("openleadr").joinpath("schema", "oadr_20b.xsd").read_text("iso-8859-1")
    named = re.search(r"edited with (.*?\)) by ", schema)
    return named[1] if named else "a schema editor"


def _schema_tools(root: etree._Element, pick: Picker) -> str:
    """Schema editors and hand-written templates: conventional prefixes, all on the root."""
    extra = ""
    namespaces = _used(root) if pick.chance(40) else list(CONVENTIONAL)[: pick.number(8, 12)]
    if pick.chance(40):
        namespaces.append(XSI)
        extra = f' xsi:schemaLocation="{OADR} oadr_20b.xsd"'
    namespaces = list(dict.fromkeys([*namespaces, *_used(root)]))
    declaration = pick.one(("", '<?xml version="1.0" encoding="UTF-8"?>\n'))
    if pick.chance(50):
        # The message itself is a global element of the schema and stands alone in samples.
        root = root[0][0]
        declaration += pick.one(("", f"<!--Sample XML file generated by {_editor()}-->\n"))
    layout = Layout(declaration, pick.one(("\t", "\t", "\t", "  ", "    ", None)))
    return _write(root, {n: CONVENTIONAL[n] for n in namespaces}, _conventional, layout, extra)


def _nested(root: etree._Element, pick: Picker) -> str:
    """Writers that declare a conventional prefix where it is first needed."""
    layout = Layout(
        pick.one(
            (
                "",
                '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n',
                '<?xml version="1.0" encoding="utf-8"?>\n',
            )
        ),
        pick.one(("  ", "    ", None)),
    )
    return _write(root, {}, _conventional, layout)


def _dot_net(root: etree._Element, _: Picker) -> str:
    """XmlSerializer of .NET: default namespaces, and d3p1 where an attribute needs a prefix."""

    def bind(namespace: str, depth: int, scope: Scope) -> str:
        del scope
        return f"d{depth}p1" if namespace == EI else ""

    for components in root.iter(f"{{{XCAL}}}components"):
        # The schema calls it nillable, and an empty object is written so.
        components.set(f"{{{XSI}}}nil", "true")
    layout = Layout('<?xml version="1.0" encoding="utf-8"?>\n', "  ", " />")
    return _write(root, {XSI: "xsi", XSD: "xsd", OADR: ""}, bind, layout)


def _data_binding(root: etree._Element, pick: Picker) -> str:
    """JAXB of Java: all namespaces of the schema on the root as ns2, ns3 and so on."""
    order = list(_BINDING_NAMESPACES)
    for place in range(len(order) - 1, 0, -1):
        other = pick.number(0, place) if pick.chance(60) else place
        order[place], order[other] = order[other], order[place]
    scope: Scope = {}
    if pick.chance(60):
        scope[DSIG] = ""
    else:
        order.insert(pick.number(0, 5), DSIG)
    scope |= {namespace: f"ns{number}" for number, namespace in enumerate(order, 2)}
    space = pick.one(("    ", None))
    layout = Layout(
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>' + ("\n" if space else ""), space
    )
    return _write(root, scope, _conventional, layout)


def _data_binding_c(root: etree._Element, pick: Picker) -> str:
    """Data binding of C++: p1, p2 and so on, declared where they are first needed."""

    def bind(namespace: str, depth: int, scope: Scope) -> str:
        del namespace, depth
        return f"p{len(scope) + 1}"

    layout = Layout('<?xml version="1.0" encoding="UTF-8" standalone="no" ?>\n', pick.one(("  ",)))
    return _write(root, {}, bind, layout)


def _mixed(root: etree._Element, pick: Picker) -> str:
    """Documents in OpenADR's default namespace with ei: and default namespaces inside."""

    def bind(namespace: str, depth: int, scope: Scope) -> str:
        del depth, scope
        return "ei" if namespace == EI else ""

    space = pick.one(("  ", "    ", None))
    layout = Layout(
        '<?xml version="1.0" encoding="utf-8"?>' + ("\n" if space else ""), space, " />"
    )
    scope = {XSI: "xsi", XSD: "xsd", OADR: ""} if pick.chance(50) else {OADR: ""}
    located = f' xsi:schemaLocation="{OADR} oadr_20b.xsd"' if XSI in scope else ""
    return _write(root, scope, bind, layout, located)


STYLES: Final[Mapping[str, Callable[[etree._Element, Picker], str]]] = {
    "schema tools": _schema_tools,
    "nested": _nested,
    ".NET": _dot_net,
    "JAXB": _data_binding,
    "C++": _data_binding_c,
    "mixed": _mixed,
}


class _Values:
    """How one stack writes times, durations and numbers; openleadr writes them in one way."""

    def __init__(self, pick: Picker) -> None:
        self._fraction = pick.one(("Z", "Z", ".000Z"))
        self._whole = pick.one((r"\1", r"\1.0"))
        self._minutes = pick.chance(50)

    def rewrite(self, text: str) -> str:
        text = _FRACTION.sub(rf"\g<1>{self._fraction}", text)
        text = _WHOLE.sub(self._whole, text)
        if text == "P":
            # What openleadr makes of a duration of zero.
            return "PT0M" if self._minutes else "PT0S"
        hours = _HOURS.match(text)
        if hours and self._minutes:
            return f"PT{60 * int(hours[1]) + int(hours[2] or 0)}M"
        return text


def restyle(octets: bytes, style: str, pick: Picker) -> bytes:
    """Write a message of openleadr as another stack would."""
    tree = etree.fromstring(octets).getroottree()
    drop_layout(tree)
    root = tree.getroot()
    if pick.chance(70):
        root[0].attrib.clear()
    values = _Values(pick)
    for element in root.iter(etree.Element):
        if element.text:
            element.text = values.rewrite(element.text)
    return STYLES[style](root, pick).encode()
