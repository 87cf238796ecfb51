"""The decoders of the tunnel protocol that have to do with route 2b."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fuzzing.engine import Decoder, Parts
from fuzzing.tunnel import (
    MAX_COUNTER,
    PEER,
    ROW_PARTS,
    all_payloads,
    messages,
    new_endpoint,
    restore_rows,
    vectors,
)
from smtunnel import ROUTE_2B, Originator, RouteChoice, StateError

_COUNTER_OCTETS: Final = 8


def _receive(side: Originator) -> Callable[[bytes], None]:
    """Return what gives an endpoint with messages on both routes a whole message twice."""

    def run(octets: bytes) -> None:
        endpoint = new_endpoint(side)
        endpoint.restore((), 0.0)
        endpoint.route_up(PEER, 0.0, message_octets=20_000)
        for number, message in enumerate(messages()):
            choice = tuple(RouteChoice)[number % len(RouteChoice)]
            endpoint.send(f"m{number}", PEER, message, 0.0, route=choice)
        counter = int.from_bytes(octets[:_COUNTER_OCTETS], "big") & MAX_COUNTER
        payload = octets[_COUNTER_OCTETS:]
        for now in (1.0, 2.0):
            endpoint.on_message(PEER, payload, originator_counter=counter, now=now)
        endpoint.route_down(PEER, 3.0)
        endpoint.on_timer(1000.0)
        if endpoint.reassembler.held_octets:
            raise AssertionError("something is held of a message that came whole")

    return run


def _payloads(side: Originator) -> list[bytes]:
    """Return data and control messages, each behind its counter, as a peer sends them."""
    other = Originator.CEM if side is Originator.DSRSP else Originator.DSRSP
    made = [payload for [payload] in all_payloads(ROUTE_2B, other)]
    control = bytes([0x68 | other << 7, 0, 255])
    made += [control + bytes.fromhex(v["octets"]) for v in vectors("control") if "octets" in v]
    return [(7 + n).to_bytes(_COUNTER_OCTETS, "big") + one for n, one in enumerate(made)]


def _saved(side: Originator) -> list[bytes]:
    """Return what an endpoint saves while it uses both routes, one row a line."""
    rows: dict[str, bytes] = {}
    made = []
    endpoint = new_endpoint(side)
    effects = [endpoint.restore((), 0.0), endpoint.route_up(PEER, 1.0, message_octets=20_000)]
    for number, message in enumerate(messages()):
        choice = tuple(RouteChoice)[number % len(RouteChoice)]
        effects.append(endpoint.send(f"m{number}", PEER, message, 2.0, route=choice))
    effects.append(endpoint.route_down(PEER, 3.0))
    for effect in effects:
        rows |= {key: octets for key, octets in effect.saves.items() if octets is not None}
        made.append(b"\n".join(b"%s %s" % (k.encode(), v.hex().encode()) for k, v in rows.items()))
    return [one for one in made if one]


def _split(octets: bytes) -> list[bytes]:
    return [octets[:8], octets[8:11], octets[11:]]


PARTS: Final = Parts(_split, b"".join)


def decoders() -> list[Decoder]:
    """Return the rows of the table."""
    sides = ((Originator.CEM, "down"), (Originator.DSRSP, "up"))
    whole = ("smtunnel.endpoint:Endpoint.on_message",)
    return [
        *(
            Decoder(f"tunnel-2b-{way}", whole, _receive(side), (), _payloads(side), PARTS)
            for side, way in sides
        ),
        *(
            Decoder(
                f"tunnel-2b-saved-{way}",
                ("smtunnel.endpoint:Endpoint.restore",),
                restore_rows(side),
                (StateError,),
                _saved(side),
                ROW_PARTS,
            )
            for side, way in sides
        ),
    ]
