"""What a gateway daemon tells of route 2b, as plain JSON values, and the orders that it takes."""

from __future__ import annotations

from typing import Any, Protocol

import cem
import dsrsp
from dsrsp.core.offers import RouteRecord
from gbcs import EntityId
from gbcs.errors import BuildError


class RouteView(Protocol):
    """Route 2b of one gateway, for its control interface."""

    def status(self) -> dict[str, Any]:
        """Tell how it stands."""
        ...

    def change(self, deed: str, device: EntityId) -> dict[str, Any]:
        """Offer it to a CEM ("offer") or take the offer back ("withdraw")."""
        ...


class DsrspRoutes:
    """Route 2b at a DSRSP.

    Args:
        gateway: started.
    """

    def __init__(self, gateway: dsrsp.Gateway) -> None:
        self._gateway = gateway

    def status(self) -> dict[str, Any]:
        """Tell for each CEM how its offer stands and whether it is connected."""
        cems = [
            {"device": str(info.device), "connected": info.connected, **_offer(info.offer)}
            for info in self._gateway.routes()
        ]
        return {"port": self._gateway.route_2b_port or None, "cems": cems}

    def change(self, deed: str, device: EntityId) -> dict[str, Any]:
        """Offer route 2b to a CEM ("offer") or take the offer back ("withdraw")."""
        gateway = self._gateway
        change = gateway.offer_route if deed == "offer" else gateway.withdraw_route
        return {"device": str(device), **_offer(change(device))}


class CemRoute:
    """Route 2b at a CEM.

    Args:
        gateway: open.
    """

    def __init__(self, gateway: cem.Gateway) -> None:
        self._gateway = gateway

    def status(self) -> dict[str, Any]:
        """Tell where the route stands, and which offer is known."""
        state, known = self._gateway.route_2b, self._gateway.route_offer
        told: dict[str, Any] = {
            "state": state.phase.value,
            "reason": state.reason or None,
            "retry_in_s": state.retry_in_s,
        }
        if known is not None:
            offer = known.offer
            told["offer"] = {
                "number": offer.offer,
                "answer": known.status.name.lower(),
                "withdrawn": known.withdrawn,
                "addresses": list(offer.addresses),
                "pins": [pin.hex() for pin in offer.pins],
                "not_before": offer.not_before,
                "not_after": offer.not_after,
                "message_octets": offer.message_octets,
            }
        return told

    def change(self, deed: str, device: EntityId) -> dict[str, Any]:
        """Refuse: offers come from the DSRSP."""
        raise BuildError("a CEM makes no offers: they come from its DSRSP")


def _offer(record: RouteRecord | None) -> dict[str, Any]:
    if record is None:
        return {"state": None}
    return {
        "state": record.state.value,
        "answer": None if record.status is None else record.status.name.lower(),
        "number": record.number,
        "offered_at": record.offered_at,
        "answered_at": record.answered_at,
        "not_after": record.not_after,
    }
