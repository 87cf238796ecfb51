"""What a VTN or VEN application saw, and what it exchanged: for tests, counts and pictures."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from lab.errors import DemoError

_FIRST_PAYLOAD: Final = re.compile(r"<(?:[\w.-]+:)?(oadr(?!Payload|SignedObject)\w+)")


@dataclass(slots=True)
class Happenings:
    """What happened, in order: of each thing its name and more, and in ``times`` when.

    The times are seconds since 1970, by the clock of whose happenings they are.
    """

    log: list[tuple[Any, ...]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, *what: Any, t: float | None = None) -> None:
        """Note something.

        Args:
            what: its name, and what else is to be told of it.
            t: when it was; None: now.
        """
        async with self._changed:
            self.times.append(time.time() if t is None else t)
            self.log.append(what)
            self._changed.notify_all()

    async def wait_for(
        self, *begins: Any, count: int = 1, timeout_s: float = 10.0
    ) -> list[tuple[Any, ...]]:
        """Wait until so many things that begin so have been noted; return them.

        Raises:
            DemoError: they were not, in time.
        """

        def found() -> list[tuple[Any, ...]]:
            return [what for what in self.log if what[: len(begins)] == begins]

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: len(found()) >= count)
        except TimeoutError:
            raise DemoError(
                f"{begins} did not happen {count} times in {timeout_s:g} s; the last that did: "
                f"{self.log[-5:]}"
            ) from None
        return found()


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One message of an HTTP exchange: a request or an answer.

    Attributes:
        t: when, in seconds since 1970.
        sent: True: whose exchanges these are sent it; False: it was received.
        text: the XML.
    """

    t: float
    sent: bool
    text: str

    @property
    def name(self) -> str:
        """The name of the payload, as oadrPoll; empty when there is none."""
        found = _FIRST_PAYLOAD.search(self.text)
        return "" if found is None else found[1]


class Exchanges:
    """Every message that an application exchanges over HTTP, in order.

    Attributes:
        all: the messages.
        listener: is called with each new one.
    """

    def __init__(self) -> None:
        self.all: list[Exchanged] = []
        self.listener: Callable[[Exchanged], None] = lambda exchanged: None

    def note(self, text: str, *, sent: bool, t: float | None = None) -> None:
        """Note a message; an empty one is none."""
        if not text:
            return
        exchanged = Exchanged(time.time() if t is None else t, sent, text)
        self.all.append(exchanged)
        self.listener(exchanged)

    def named(self, name: str, *, sent: bool) -> list[Exchanged]:
        """Return the messages of a name that went one way."""
        return [one for one in self.all if one.sent is sent and one.name == name]
