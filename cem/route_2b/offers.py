"""What a CEM makes of a route offer."""

from __future__ import annotations

from cem.route_2b.dialling import is_usable_address
from gbcs.route_2b_texts import MIN_MESSAGE_OCTETS, VERSION
from smtunnel.routes import RouteOffer, RouteStatus

VERSIONS = (VERSION,)
"""The versions of route 2b that this client speaks."""


def common_version(offer: RouteOffer) -> int | None:
    """Return the highest version that both ends speak, or None."""
    return max(set(offer.versions) & set(VERSIONS), default=None)


def usable_addresses(offer: RouteOffer) -> tuple[str, ...]:
    """Return those addresses that can be dialled, in their order."""
    return tuple(address for address in offer.addresses if is_usable_address(address))


def judge_offer(offer: RouteOffer, now: float) -> RouteStatus:
    """Say whether an offer can be followed, or why not; that a newer one is known comes on top.

    Args:
        offer: as received.
        now: the wall clock, seconds since 1970.
    """
    if now >= offer.not_after:
        return RouteStatus.OUT_OF_DATE
    if common_version(offer) is None:
        return RouteStatus.NO_COMMON_VERSION
    if not usable_addresses(offer):
        return RouteStatus.UNUSABLE_ADDRESS
    if offer.message_octets < MIN_MESSAGE_OCTETS:
        return RouteStatus.OTHER
    return RouteStatus.ACCEPTED
