"""What both engines with real gateways share: what they can carry out, and what is on its way."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from typing import Any

from lab.study.cases import Case
from lab.study.errors import EngineError
from lab.study.journal_tables import KnownMessages
from lab.study.payloads import messages_of
from openadr_xml import compact

_ECS46A_CHARS, _ECS200_CHARS = 110, 1062
_STREAM_1_ROUND_TRIPS = (0.5, 2.5)


def check_case(case: Case) -> None:
    """Check that the real software can do what a case asks for with an engine.

    Raises:
        EngineError: it cannot; says which engine can.
    """
    route = case.route
    reasons = []
    if route.kind == "stream1":
        if case.engine != "live":
            reasons.append(f"route {route.kind}")
        if route.poll_interval_s:
            reasons.append("polls (poll_s = 0 pushes)")
        if route.round_trips not in _STREAM_1_ROUND_TRIPS:
            reasons.append(
                f"{route.round_trips:g} round trips: a connection that stands takes 0.5, a new "
                "one 2.5 (exchange_round_trips)"
            )
    if (route.carrier_down_chars, route.carrier_up_chars) != (_ECS46A_CHARS, _ECS200_CHARS):
        reasons.append("carriers of another size")
    if not route.transform:
        reasons.append("commands without a transform")
    if reasons:
        raise EngineError(
            f"route {route.name!r}: the engine {case.engine!r} knows no {', '.join(reasons)}: "
            'take engines = ["fleet"] for it'
        )


def dsrsp_settings(case: Case) -> dict[str, Any]:
    """Return the settings of the DSRSP's gateway for a route."""
    route = case.route
    settings: dict[str, Any] = {
        "compact": route.compact,
        "fragments_in_flight": route.fragments_in_flight,
        "fragments_in_flight_total": route.fragments_in_flight_total,
        "window_s": route.window_s,
        "fragment_attempts": route.fragment_attempts,
        "fragment_retry_first_s": route.fragment_retry_first_s,
        "fragment_retry_max_s": route.fragment_retry_max_s,
        "response_timeout_s": route.response_timeout_s,
        "message_lifetime_s": route.message_lifetime_s,
    }
    if route.fragments_per_window is not None:
        settings["fragments_per_window"] = route.fragments_per_window
    return settings | _route_2b(case)


def _route_2b(case: Case) -> dict[str, Any]:
    if case.route.kind != "2b":
        return {"use_route_2b": False}
    return {"use_route_2b": True, "fallback_after_s": case.route.fallback_after_s}


def cem_settings(case: Case) -> dict[str, Any]:
    """Return the settings of a CEM's gateway for a route."""
    route = case.route
    settings: dict[str, Any] = {
        "compact": route.compact,
        "fragment_attempts": route.fragment_attempts,
        "receipt_timeout_s": route.receipt_timeout_s,
        "receipt_timeout_max_s": max(route.receipt_timeout_s, 21_600.0),
        "message_lifetime_s": route.message_lifetime_s,
    }
    if case.workload.kind == "alert-storm":
        # The CEM's own brake would keep the storm from breaking out.
        settings["alerts_per_window"] = max(case.workload.alerts_per_cem, 16)
    return settings | _route_2b(case)


def network_seed(case: Case) -> int:
    """Return the seed of the simulated network: the same for both engines with real gateways."""
    return case.seed & 0x7FFF_FFFF


def compression_of(case: Case) -> str:
    """Return the compression that a route's messages are sent with."""
    return "auto" if case.route.dictionary else "zlib"


def known_messages(case: Case) -> KnownMessages:
    """Return a workload's messages by direction and octets, as journals know them."""
    known = {}
    for seed in range(4):
        for message in messages_of(case.workload, seed):
            way = "down" if message.downlink else "up"
            for octets in (message.octets, compact(message.octets)):
                known[way, len(octets)] = (message.name, len(message.octets))
    return known


class Awaited:
    """Messages on their way: who waits for which, in the order of sending."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, bool], deque[asyncio.Future[bool]]] = defaultdict(deque)

    def expect(self, cem: int, downlink: bool) -> asyncio.Future[bool]:
        """Return what will tell that the next message of this CEM and way has arrived."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[cem, downlink].append(future)
        return future

    def arrived(self, cem: int, downlink: bool) -> None:
        """A message has arrived: the one that waited longest is taken to be it."""
        waiting = self._waiting[cem, downlink]
        while waiting:
            future = waiting.popleft()
            if not future.done():
                future.set_result(True)
                return

    @staticmethod
    def failed(future: asyncio.Future[bool]) -> None:
        """A message has failed."""
        if not future.done():
            future.set_result(False)
