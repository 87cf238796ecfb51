"""OpenADR XML made small without changing what it says: the gateways use it before the tunnel.

OpenADR 2.0b messages carry white space, an XML declaration and repeated namespace declarations
that no receiver needs. compact drops them; canonical says what "the same message" means.
"""

from openadr_xml.canonical import NotCompactable, canonical
from openadr_xml.rewriting import compact

__all__ = ["NotCompactable", "canonical", "compact"]
