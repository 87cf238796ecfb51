"""OpenADR 2.0b XML: made small without changing what it says, read for routing, answered.

Messages carry white space, an XML declaration and repeated namespace declarations that no
receiver needs. compact drops them; canonical says what "the same message" means.
parse_untrusted_payload reads what a gateway must know to route a message; openadr_xml.building
makes the few payloads that a gateway gives itself.
"""

try:
    from openadr_xml.canonical import NotCompactable, canonical
    from openadr_xml.exchanges import ANSWERS, FROM_VTN, TOLD_AT_ONCE
    from openadr_xml.payloads import (
        MAX_PAYLOAD_OCTETS,
        SERVICES,
        EventVersion,
        Payload,
        PayloadRefused,
        parse_untrusted_payload,
    )
    from openadr_xml.rewriting import compact
except ModuleNotFoundError as missing:
    # The base install carries the embeddable library alone.
    raise ModuleNotFoundError(
        f"openadr_xml needs the package {missing.name!r}: "
        "install the extra 'gateway' (pip install 'smtunnel[gateway]')",
        name=missing.name,
    ) from None

__all__ = [
    "ANSWERS",
    "FROM_VTN",
    "MAX_PAYLOAD_OCTETS",
    "SERVICES",
    "TOLD_AT_ONCE",
    "EventVersion",
    "NotCompactable",
    "Payload",
    "PayloadRefused",
    "canonical",
    "compact",
    "parse_untrusted_payload",
]
