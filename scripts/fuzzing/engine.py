"""What a decoder is to the fuzzer, and how one input is tried."""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fuzzing.mutation import mutate

MAX_SECONDS: Final = 1.0
"""What takes longer, of processor time, is a finding."""

MAX_GROWTH_OCTETS: Final = 128 * 1024 * 1024
"""What makes the process grow by more is a finding."""

_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Parts:
    """How an input is taken apart and put together again, so that damage gets below a check.

    Attributes:
        split: takes a good input apart.
        join: puts parts together, and makes anew what would give the damage away.
    """

    split: Callable[[bytes], list[bytes]]
    join: Callable[[list[bytes]], bytes]


@dataclass(frozen=True)
class Decoder:
    """One row of the table.

    Attributes:
        name: its name on the command line.
        covers: the functions of the project that it tries, "module:name".
        decode: takes an input.
        errors: the only errors that it may raise.
        seeds: makes the good inputs; decode takes each of them without an error, but for those
            that show one.
        parts: how half of the inputs are damaged below their outer form.
    """

    name: str
    covers: tuple[str, ...]
    decode: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    parts: Parts | None = field(default=None)


@dataclass(frozen=True)
class Finding:
    """An input that did not end as it must.

    Attributes:
        decoder: its name.
        octets: the input.
        what: what happened, in one line.
        place: where; findings with the same place are one.
        detail: the traceback.
    """

    decoder: str
    octets: bytes
    what: str
    place: str
    detail: str

    @property
    def file_name(self) -> str:
        """A name for the input's file."""
        return f"{self.decoder}-{hashlib.sha256(self.octets).hexdigest()[:12]}.bin"


def make_input(decoder: Decoder, seed: int, number: int) -> bytes:
    """Make one input of a decoder; the same for the same seed and number."""
    chance = random.Random(f"{seed}:{decoder.name}:{number}")  # noqa: S311
    good, other = chance.choice(decoder.seeds), chance.choice(decoder.seeds)
    if decoder.parts is None or chance.random() < 0.4:
        return mutate(good, other, chance)
    parts, others = decoder.parts.split(good), decoder.parts.split(other)
    for _ in range(1 + (chance.random() < 0.3)):
        place = chance.randrange(len(parts))
        parts[place] = mutate(parts[place], chance.choice(others), chance)
    return decoder.parts.join(parts)


def try_input(decoder: Decoder, octets: bytes) -> Finding | None:
    """Give a decoder one input; None when it ends as it must."""
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    try:
        decoder.decode(octets)
    except decoder.errors:
        pass
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1]
        place = f"{type(error).__name__} at {last.filename}:{last.lineno}"
        detail = "".join(traceback.format_exception(error))
        # A recursion's traceback is long, and tells nothing after its first lines.
        what = f"{type(error).__name__}: {error}"[:200]
        return Finding(decoder.name, octets, what, place, detail[:6000])
    seconds = time.process_time() - started
    if seconds > MAX_SECONDS:
        return Finding(decoder.name, octets, f"took {seconds:.1f} s", "time", "")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown) * _RSS_UNIT
    if grown > MAX_GROWTH_OCTETS:
        return Finding(decoder.name, octets, f"took {grown >> 20} MiB", "memory", "")
    return None
