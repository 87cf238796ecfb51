"""The journey of one tunnel message, joined from the journals of the DSRSP, the DCC and the CEM.

`read_events` reads the journals, `list_messages` tells what they know of, `explain` joins what
belongs to one message; the other functions write the journey down.
"""

from lab.explain.drawings import as_mermaid, as_svg
from lab.explain.join import KnownMessage, explain, list_messages, read_events
from lab.explain.journey import Delivery, MessageJourney, Party, as_json_object

__all__ = [
    "Delivery",
    "KnownMessage",
    "MessageJourney",
    "Party",
    "as_json_object",
    "as_mermaid",
    "as_svg",
    "explain",
    "list_messages",
    "read_events",
]
