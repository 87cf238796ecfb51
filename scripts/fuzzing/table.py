"""The table: one row for each way in which foreign octets are read."""

from __future__ import annotations

from functools import cache

from fuzzing import files, gb, openadr, route_2b, signing, tunnel, tunnel_2b
from fuzzing.engine import Decoder


@cache
def all_decoders() -> tuple[Decoder, ...]:
    """Return all rows of the table."""
    return (
        *tunnel.decoders(),
        *tunnel_2b.decoders(),
        *gb.decoders(),
        *route_2b.decoders(),
        *signing.decoders(),
        *files.decoders(),
        *openadr.decoders(),
    )
