"""The compact form of a message: no layout, no declaration, known prefixes on the root."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Final

from lxml import etree

from openadr_xml.canonical import (
    NotCompactable,
    canonical,
    canonical_of_tree,
    drop_layout,
    parse_untrusted,
)
from openadr_xml.namespaces import FREE_PREFIXES, PREFIXES, XML, XML_SCHEMA_INSTANCE

_TYPE: Final = f"{{{XML_SCHEMA_INSTANCE}}}type"
# NCName, as Namespaces in XML 1.0 and XML 1.0 (fifth edition) section 2.3 define it.
_NAME_START: Final = (
    "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d"
    "\u2070-\u218f\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NAME: Final = f"[{_NAME_START}][{_NAME_START}\\-.0-9\u00b7\u0300-\u036f\u203f-\u2040]*"
# Anything before a colon could be the prefix of a qualified name, also inside an XPath.
_POSSIBLE_PREFIX: Final = re.compile(f"({_NAME}):(?=[{_NAME_START}])")


def compact(xml: bytes) -> bytes:
    """Rewrite a message into the equal form that compresses best, or return it as it is.

    White space that only lays out elements and the XML declaration go; every namespace that is
    used gets one prefix, declared once on the root element. What looks like a prefix in
    a text or an attribute value (as in xsi:type) keeps its meaning, or stays without one. What
    comes out has the same canonical form (see openadr_xml.canonical) as what went in: this is
    checked before it is returned.

    Args:
        xml: the message, any octets.

    Returns:
        The compact form; or xml itself when it is not XML 1.0 in UTF-8, has a DTD, or holds an
        XML signature.
    """
    try:
        tree = parse_untrusted(xml)
        drop_layout(tree)
        small = _rewrite(tree)
        # The second parse proves that what is sent can be read, and reads as the same.
        same = canonical(small) == canonical_of_tree(tree)
    except (NotCompactable, etree.LxmlError, ValueError):
        return xml
    return small if same else xml


def _rewrite(tree: etree._ElementTree) -> bytes:
    """Serialise a tree with the prefixes of the compact form, or its own if that is not safe."""
    root = tree.getroot()
    mentioned = _prefixes_in_content(root)
    if mentioned is None:
        return etree.tostring(tree, encoding="UTF-8", xml_declaration=False)
    small = etree.Element(root.tag, nsmap=_choose_prefixes(root, mentioned))
    _copy_content(root, small)
    # Each goes next to the root element, so the outermost goes first.
    for node in reversed(list(root.itersiblings(preceding=True))):
        small.addprevious(_copy_of_remark(node))
    for node in reversed(list(root.itersiblings())):
        small.addnext(_copy_of_remark(node))
    return etree.tostring(small.getroottree(), encoding="UTF-8", xml_declaration=False)


def _prefixes_in_content(root: etree._Element) -> dict[str, str | None] | None:
    """Collect what could be prefixes in texts and attribute values.

    Returns:
        Prefix to the namespace it is declared for, or None where it is not declared. None for all
        when one prefix means two things, or xsi:type names a type in the default namespace: then
        the document's own declarations must stay where they are.
    """
    found: dict[str, str | None] = {}
    for element in root.iter(etree.Element):
        if ":" not in element.get(_TYPE, ":") and element.nsmap.get(None):
            return None
        texts = [element.text, *map(str, element.values()), *(child.tail for child in element)]
        # Most texts have no colon, most colons belong to times and addresses.
        worth = [text for text in texts if text and ":" in text]
        for name in {name for text in worth for name in _POSSIBLE_PREFIX.findall(text)}:
            namespace = element.nsmap.get(name)
            if found.setdefault(name, namespace) != namespace:
                return None
    return found


def _choose_prefixes(root: etree._Element, mentioned: dict[str, str | None]) -> dict[str, str]:
    """Give each namespace in use one prefix, known ones first in their fixed order.

    A prefix that content mentions keeps its namespace, or stays without one.
    """
    names = (
        str(name) for element in root.iter(etree.Element) for name in (element.tag, *element.keys())
    )
    used = dict.fromkeys(name[1 : name.index("}")] for name in names if name[0] == "{")
    used.pop(XML, None)
    kept = {prefix: namespace for prefix, namespace in mentioned.items() if namespace is not None}
    free = (prefix for prefix in _free_prefixes() if prefix not in mentioned)
    chosen: dict[str, str] = {}
    for namespace in sorted(used, key=_rank):
        if namespace in kept.values():
            continue
        prefix = PREFIXES.get(namespace)
        if prefix is None or prefix in mentioned:
            prefix = next(free)
        chosen[prefix] = namespace
    return {**chosen, **kept}


_RANKS: Final = {namespace: rank for rank, namespace in enumerate(PREFIXES)}


def _rank(namespace: str) -> int:
    return _RANKS.get(namespace, len(_RANKS))


def _free_prefixes() -> Iterator[str]:
    yield from FREE_PREFIXES
    for number in count(1):
        yield f"n{number}"


def _copy_content(source: etree._Element, target: etree._Element) -> None:
    """Copy attributes, texts and children; the names find their prefixes on the new root."""
    # A list instead of recursion: how deep a document is nested is its sender's choice.
    pairs = [(source, target)]
    for old, new in pairs:
        new.text = old.text
        for name, value in old.items():
            new.set(name, value)
        for child in old:
            if isinstance(child.tag, str):
                copied = etree.SubElement(new, child.tag)
                pairs.append((child, copied))
            else:
                copied = _copy_of_remark(child)
                new.append(copied)
            copied.tail = child.tail


def _copy_of_remark(node: etree._Element) -> etree._Element:
    """Copy a comment or a processing instruction."""
    if isinstance(node, etree._ProcessingInstruction):
        return etree.ProcessingInstruction(node.target, node.text or "")
    return etree.Comment(node.text)
