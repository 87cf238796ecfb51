"""With which priority a payload of a VEN crosses."""

from __future__ import annotations


def priority(kind: str) -> int:
    """Return with which priority a payload crosses: reports never hold up who waits.

    What ends a registration comes after the reports that were made under it.
    """
    behind = ("oadrUpdateReport", "oadrCancelPartyRegistration", "oadrCanceledPartyRegistration")
    return 0 if kind in behind else 1
