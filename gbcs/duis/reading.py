"""Reading foreign XML: hardened parsing, then a cursor that accepts exactly what is expected.

No DTD, no entities, no network, no comments, no processing instructions, bounded size and depth.
White space between elements is dropped before anything looks at the tree, as the DCC's own tool
does before it signs and verifies.
"""

from __future__ import annotations

import base64
import binascii
import re

from lxml import etree

from gbcs.errors import DuisFormatError

DUIS_NAMESPACE = "http://www.dccinterface.co.uk/ServiceUserGateway"
SIGNATURE_NAMESPACE = "http://www.w3.org/2000/09/xmldsig#"
# As lxml writes the namespace of a tag.
DUIS_BRACED = f"{{{DUIS_NAMESPACE}}}"
SIGNATURE_BRACED = f"{{{SIGNATURE_NAMESPACE}}}"

MAX_DUIS_OCTETS = 65_536
MAX_DEPTH = 32

_MAX_QUOTED_CHARS = 60
_XML_WHITE_SPACE = " \t\r\n"
_DROP_WHITE_SPACE = dict.fromkeys(map(ord, _XML_WHITE_SPACE))
_ENCODING = re.compile(rb"""^(?:\xef\xbb\xbf)?<\?xml[^>]*?encoding\s*=\s*["']([^"']*)["']""")

# One look finds all that is rare: comments and instructions, text beside elements, depth.
_UNUSUAL = etree.XPath(
    "//comment() | //processing-instruction() | //*[*]/text()" + " | " + "/*" * (MAX_DEPTH + 1),
    smart_strings=False,
)


def parse_xml(octets: bytes) -> etree._Element:
    """Parse a foreign XML document and drop the white space between its elements.

    Args:
        octets: the document, UTF-8, at most ``MAX_DUIS_OCTETS``.

    Returns:
        The root element.

    Raises:
        DuisFormatError: too large or deep, not well-formed, with DTD, comment or instruction.
    """
    if len(octets) > MAX_DUIS_OCTETS:
        raise DuisFormatError(
            f"an XML document of {len(octets)} octets: expected at most {MAX_DUIS_OCTETS}"
        )
    declared = _ENCODING.match(octets)
    if declared is not None and declared[1].upper() not in (b"UTF-8", b"US-ASCII"):
        raise DuisFormatError(f"XML encoding {declared[1][:20]!r}: expected UTF-8")
    if b"<!DOCTYPE" in octets:
        raise DuisFormatError("the XML has a document type declaration: send it without")
    # A parser each time: one that has failed must not touch the next document. The encoding is
    # fixed, so that no other one can hide what was looked for above.
    parser = etree.XMLParser(
        encoding="UTF-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    try:
        root = etree.fromstring(octets, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise DuisFormatError(f"not well-formed XML: {error}") from error
    unusual = _UNUSUAL(root)
    if unusual:
        _clean(root, unusual)
    return root


def _clean(root: etree._Element, unusual: object) -> None:
    for item in unusual if isinstance(unusual, list) else []:
        if isinstance(item, str):
            if item.strip(_XML_WHITE_SPACE):
                raise DuisFormatError(f"text between elements: {_quoted(item)}")
        elif isinstance(item, etree._Comment | etree._ProcessingInstruction):
            raise DuisFormatError("the XML has a comment or a processing instruction: send none")
        else:
            raise DuisFormatError(f"XML elements deeper than {MAX_DEPTH}")
    for element in root.iter():
        element.tail = None
        if len(element):
            element.text = None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED_CHARS else text[:_MAX_QUOTED_CHARS] + "…")


class Cursor:
    """Walks over an element's children in order; whatever is not asked for is an error.

    Args:
        element: whose children.
        attributes: the attributes that it may have.
        namespace: of the children asked for, in braces.
    """

    __slots__ = ("_children", "_element", "_namespace", "_position")

    def __init__(
        self,
        element: etree._Element,
        attributes: tuple[str, ...] = (),
        namespace: str = DUIS_BRACED,
    ) -> None:
        self._element = element
        self._namespace = namespace
        self._children = list(element)
        self._position = 0
        if not self._children and element.text:
            raise self.error(f"found text {_quoted(element.text)}, expected elements")
        for name in element.keys():  # noqa: SIM118  # an element iterates over its children
            if name not in attributes:
                raise self.error(f"unexpected attribute {_quoted(str(name))}")

    def error(self, what: str) -> DuisFormatError:
        """Return an error that says where."""
        path = self._element.getroottree().getpath(self._element)
        return DuisFormatError(f"{path}: {what}")

    def attribute(self, name: str) -> str:
        """Return an attribute that must be there."""
        value = self._element.get(name)
        if value is None:
            raise self.error(f"the attribute {name!r} is missing")
        return value

    def peek(self) -> str | None:
        """Return the local name of the next child of the namespace; None at the end."""
        if self._position == len(self._children):
            return None
        tag = str(self._children[self._position].tag)
        if not tag.startswith(self._namespace):
            return ""
        return tag[len(self._namespace) :]

    def element(self, name: str) -> etree._Element:
        """Return the next child, which must have this local name."""
        if self._position < len(self._children):
            child = self._children[self._position]
            if child.tag == self._namespace + name:
                self._position += 1
                return child
            found = f"found {_quoted(str(child.tag))}"
        else:
            found = "found the end"
        raise self.error(f"{found}, expected the element {name}")

    def skip(self, name: str) -> None:
        """Pass over the next child, whatever is inside, so long as it is no signature."""
        child = self.element(name)
        if next(child.iter(f"{SIGNATURE_BRACED}Signature"), None) is not None:
            raise self.error("a signature inside the body: expected it as last child of the root")

    def inside(self, name: str, attributes: tuple[str, ...] = ()) -> Cursor:
        """Return a cursor over the children of the next child."""
        return Cursor(self.element(name), attributes, self._namespace)

    def text(self, name: str) -> str:
        """Return the text of the next child, which must have nothing else."""
        child = self.element(name)
        if len(child) or child.keys():
            raise self.error(f"{name} has elements or attributes, expected text alone")
        return child.text or ""

    def token(self, name: str) -> str:
        """Return the text of the next child without the white space around it."""
        return self.text(name).strip(_XML_WHITE_SPACE)

    def base64(self, name: str) -> bytes:
        """Return the octets that the next child has as base64; white space does not matter."""
        text = self.text(name).translate(_DROP_WHITE_SPACE)
        try:
            octets = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            octets = b""
        # The decoder takes tails that no encoder writes.
        if not octets or base64.b64encode(octets).decode() != text:
            raise self.error(f"{name} is not base64 of at least one octet")
        return octets

    def end(self) -> None:
        """Check that no child is left."""
        if self._position < len(self._children):
            raise self.error(
                f"unexpected element {_quoted(str(self._children[self._position].tag))}"
            )
