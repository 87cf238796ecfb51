"""Validation against the official DUIS schema, whose files the caller reads."""

from __future__ import annotations

from collections.abc import Mapping

from lxml import etree

from gbcs.duis.reading import parse_xml
from gbcs.errors import DuisError, DuisSchemaError

SCHEMA_FILES = (
    "duis54.xsd",
    "mmc54.xsd",
    "xmldsig-core-schema.xsd",
    "XMLSchema.dtd",
    "datatypes.dtd",
)
"""The files of DUIS 5.4 that belong together, the main one first."""


class Schema:
    """A compiled XML schema.

    Args:
        xsd_octets_by_name: the schema's files by the names under which they import each other.
        main: the name of the file to begin with.

    Raises:
        DuisSchemaError: the files are no complete, valid schema.
    """

    def __init__(self, xsd_octets_by_name: Mapping[str, bytes], main: str) -> None:
        if main not in xsd_octets_by_name:
            raise DuisSchemaError(
                f"the schema file {main!r} was not given: expected the files "
                + ", ".join(SCHEMA_FILES)
            )
        files = _Files(xsd_octets_by_name)
        parser = etree.XMLParser(no_network=True, resolve_entities=False)
        parser.resolvers.add(files)
        try:
            document = etree.fromstring(xsd_octets_by_name[main], parser, base_url=main)
            self._schema = etree.XMLSchema(document)
        except (etree.XMLSyntaxError, etree.XMLSchemaParseError, ValueError) as error:
            wanted = f" (not given: {', '.join(files.missing)})" if files.missing else ""
            raise DuisSchemaError(f"the schema {main!r} does not load: {error}{wanted}") from error

    def validate(self, octets: bytes) -> None:
        """Validate a DUIS message.

        Args:
            octets: the XML document.

        Raises:
            DuisSchemaError: it does not validate, or is no acceptable XML; the message says the
                line, the element and what is wrong.
        """
        try:
            root = parse_xml(octets)
        except DuisError as error:
            raise DuisSchemaError(str(error)) from error
        if not self._schema.validate(root):
            first = self._schema.error_log[0]  # type: ignore[index]  # the stubs lack it
            raise DuisSchemaError(f"line {first.line}, {first.path}: {first.message}")


class _Files(etree.Resolver):
    """Answers the schema's imports from memory; nothing is fetched."""

    def __init__(self, octets_by_name: Mapping[str, bytes]) -> None:
        self._octets_by_name = octets_by_name
        self.missing: list[str] = []

    # The stubs forget the third argument.
    def resolve(self, system_url: str, _public_id: str, context: object) -> object:  # type: ignore[override]
        name = (system_url or "").rsplit("/", 1)[-1]
        octets = self._octets_by_name.get(name)
        if octets is None:
            self.missing.append(name)
            return self.resolve_empty(context)  # type: ignore[attr-defined]
        return self.resolve_string(octets, context, base_url=name)
