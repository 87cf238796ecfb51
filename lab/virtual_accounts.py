"""Who sent what, and what became of it: each message once, or a reason that is true."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from smtunnel import DeliveryState, MessageStatus


class Fate(enum.Enum):
    """What became of a message, as the applications at both ends see it together."""

    DELIVERED = "delivered once"
    FAILED = "failed, and not delivered"
    UNSURE_DELIVERED = "failed, not known whether delivered: it was, once"
    UNSURE = "failed, not known whether delivered: it was not"
    REFUSED = "not taken, and not delivered"
    UNPROMISED_DELIVERED = "its sender was killed before it was promised: delivered once"
    UNPROMISED = "its sender was killed before it was promised: not delivered"
    LOST = "LOST: promised delivered, but was not"
    DOUBLED = "DOUBLED: delivered more than once"
    DENIED = "DENIED: said to have failed, but was delivered"
    UNENDED = "UNENDED: has no end"


WRONG = frozenset({Fate.LOST, Fate.DOUBLED, Fate.DENIED, Fate.UNENDED})
"""What must never be."""

_ADMITS = re.compile(r"not known whether|whether .* is not known|may still reach", re.DOTALL)
_NUMBER = re.compile(r"\b[0-9][0-9A-F]-[0-9A-F-]{20}\b|\b\d+(\.\d+)?\b")


@dataclass(slots=True)
class Account:
    """One message.

    Attributes:
        name: unique; the message begins with it.
        status: the last that its sender was told; None: it was not taken, as far as is known.
        refusal: why it was not taken.
        unpromised: whether its sender was killed before it could say that it took it.
        refs: the references under which it was given out at the other end.
        sent_at: when it was taken, in seconds since 1970.
        arrived_at: when it was given out first.
    """

    name: str
    status: MessageStatus | None = None
    refusal: str | None = None
    unpromised: bool = False
    refs: set[str] = field(default_factory=set)
    given_out_after_ack: int = 0
    sent_at: float | None = None
    arrived_at: float | None = None

    @property
    def fate(self) -> Fate:
        """What became of it, once nothing more will happen."""
        if len(self.refs) > 1 or self.given_out_after_ack:
            return Fate.DOUBLED
        delivered = len(self.refs) == 1
        if self.unpromised:
            return Fate.UNPROMISED_DELIVERED if delivered else Fate.UNPROMISED
        if self.refusal is not None:
            return Fate.DENIED if delivered else Fate.REFUSED
        if self.status is None or not self.status.final:
            return Fate.UNENDED
        if self.status.state is not DeliveryState.FAILED:
            return Fate.DELIVERED if delivered else Fate.LOST
        if _ADMITS.search(self.status.reason or ""):
            return Fate.UNSURE_DELIVERED if delivered else Fate.UNSURE
        return Fate.DENIED if delivered else Fate.FAILED

    @property
    def reason(self) -> str:
        """Why it was not delivered as its sender wished; empty where there is nothing to say."""
        if self.status is not None and self.status.reason:
            return self.status.reason
        if self.fate is Fate.UNENDED and self.status is not None:
            return f"still {self.status.state.value}"
        return self.refusal or ""


class Accounts:
    """All messages of a run, by the octets that were sent."""

    def __init__(self) -> None:
        self._by_message: dict[bytes, Account] = {}
        self._acknowledged: set[tuple[str, str]] = set()
        self.foreign: list[str] = []
        self.given_out_again = 0

    def open(self, name: str, message: bytes) -> Account:
        """Begin the account of a message, which no other one equals."""
        account = self._by_message[message] = Account(name)
        return account

    def arrived(self, where: str, ref: str, message: bytes, at: float) -> None:
        """Note that a message was given out to an application.

        Args:
            where: whose application: a ref is unique there.
            ref: under which reference.
            message: what was given out.
            at: seconds since 1970.
        """
        account = self._by_message.get(message)
        if account is None or not account.name.endswith(where):
            self.foreign.append(f"{where} got {message[:40]!r}, which nobody sent there")
            return
        if ref in account.refs:
            self.given_out_again += 1
        if (where, ref) in self._acknowledged:
            account.given_out_after_ack += 1
        account.refs.add(ref)
        if account.arrived_at is None:
            account.arrived_at = at

    def acknowledged(self, where: str, ref: str) -> None:
        """Note that an application took a message over, and its gateway said so."""
        self._acknowledged.add((where, ref))

    def all(self) -> Iterable[Account]:
        """Return every account, in the order of opening."""
        return self._by_message.values()

    def outcomes(self) -> Counter[tuple[Fate, str]]:
        """Count messages by what became of them and why, numbers in the reasons left out."""
        return Counter((account.fate, _NUMBER.sub("…", account.reason)) for account in self.all())

    def wrong(self) -> list[str]:
        """Return in words what must never be; empty: all is well."""
        found = [
            f"{account.name}: {account.fate.value}; {account.reason}; given out as "
            f"{sorted(account.refs)}, again after its ack {account.given_out_after_ack} times"
            for account in self.all()
            if account.fate in WRONG
        ]
        return found + self.foreign
