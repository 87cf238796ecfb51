"""What "the same message" means: the canonical form that the compact form must keep.

Two documents are the same when these are equal, in the order of the document:

- element and attribute names as (namespace, local name); attributes in any order;
- attribute values, after the normalisation that every XML parser does;
- character data, octet for octet; where it is written as CDATA makes no difference;
- comments and processing instructions.

What makes no difference: prefixes and where they are declared; the XML declaration; white space
outside the root element; and white space that only lays out elements: a text of nothing but white
space in an element that has child elements and no other text, unless xml:space="preserve" is in
force. White space in an element without child elements is content and stays.

Source: Canonical XML 2.0 (W3C Note, 11 April 2013) sections 2.2 and 2.3, with PrefixRewrite
sequential and comments kept; the rule on white space is this project's.
"""

from __future__ import annotations

from typing import Final

from lxml import etree

from openadr_xml.namespaces import XML, XML_SIGNATURE

_XML_SPACE: Final = f"{{{XML}}}space"
_SIGNATURE: Final = f"{{{XML_SIGNATURE}}}Signature"
_WHITE_SPACE: Final = " \t\r\n"


class NotCompactable(ValueError):
    """The octets are no XML that may be rewritten; the message says why."""


def parse_untrusted(xml: bytes, *, allow_signature: bool = False) -> etree._ElementTree:
    """Parse a document that may be rewritten: no DTD, no signature, in UTF-8.

    Neither entities nor the network are ever used.

    Args:
        xml: any octets.
        allow_signature: True for who only reads it.

    Raises:
        NotCompactable: not such a document.
    """
    # One parser a call: lxml's parsers are not to be shared between threads.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        # lxml would accept UTF-16 by its byte-order mark.
        xml.decode("utf-8")
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise NotCompactable(f"not XML in UTF-8: {error}") from None
    tree = root.getroottree()
    information = tree.docinfo
    if information.xml_version != "1.0":
        raise NotCompactable(f"XML of version {information.xml_version}: only 1.0 is rewritten")
    if (information.encoding or "UTF-8").upper() not in ("UTF-8", "ASCII", "US-ASCII"):
        raise NotCompactable(f"the encoding is {information.encoding}: only UTF-8 is rewritten")
    if information.internalDTD is not None:
        raise NotCompactable("a document with a DTD is not rewritten")
    if not allow_signature and next(root.iter(_SIGNATURE), None) is not None:
        raise NotCompactable("it holds an XML signature, which would no longer verify")
    return tree


def drop_layout(tree: etree._ElementTree) -> None:
    """Drop the white space that only lays out elements, in place."""
    for element in tree.getroot().iter(etree.Element):
        children = list(element)
        if _is_laid_out(element, children):
            element.text = None
            for child in children:
                child.tail = None
        elif not element.text:
            # An empty CDATA section is an empty text, which would be written as two tags.
            element.text = None


def _is_laid_out(element: etree._Element, children: list[etree._Element]) -> bool:
    """Tell whether there are child elements and between them nothing but white space."""
    if not any(isinstance(child.tag, str) for child in children):
        return False
    texts = [text for text in (element.text, *(child.tail for child in children)) if text]
    return (
        bool(texts)
        and not any(text.strip(_WHITE_SPACE) for text in texts)
        and not _preserves_space(element)
    )


def _preserves_space(element: etree._Element) -> bool:
    for scope in (element, *element.iterancestors()):
        value = scope.get(_XML_SPACE)
        if value is not None:
            return value == "preserve"
    return False


def canonical(xml: bytes) -> str:
    """Return the canonical form of a document: equal texts mean the same message.

    Args:
        xml: a document in UTF-8 without DTD and without XML signature.

    Raises:
        NotCompactable: not such a document.
    """
    tree = parse_untrusted(xml)
    drop_layout(tree)
    return canonical_of_tree(tree)


def canonical_of_tree(tree: etree._ElementTree) -> str:
    """Return the canonical form of a tree from which the layout has been dropped."""
    text = etree.tostring(tree, encoding="unicode", xml_declaration=False)
    return str(etree.canonicalize(text, with_comments=True, rewrite_prefixes=True))
