"""What crosses the control interface: options, states, the token; both of its ends use them."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from gbcs.errors import BuildError
from lab.errors import ConfigError
from smtunnel import MessageStatus, RouteChoice
from smtunnel.records import Capabilities
from smtunnel.route_choice import routes_text

N = TypeVar("N", int, float)

_STATUS_FIELDS = tuple(field.name for field in fields(MessageStatus))
ROUTES = {
    "auto": RouteChoice.AUTO,
    "2a": RouteChoice.ONLY_2A,
    "2b": RouteChoice.ONLY_2B,
    "both": RouteChoice.BOTH,
}
"""What a caller may say of the routes that a message may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions:
    """How a message is to be sent, as a caller says it; see the gateways' ``send``."""

    compression: str = "auto"
    compact: bool | None = None
    deadline: float | None = None
    priority: int = 0
    topic: str | None = None
    supersedes: str | None = None
    route: RouteChoice = RouteChoice.AUTO
    urgent: bool = False

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> SendOptions:
        """Read them from the query of a request.

        Raises:
            BuildError: one of them is not what it must be.
        """
        compact = query.get("compact")
        if compact not in (None, "true", "false"):
            raise BuildError(f"compact={compact}: expected true or false, or leave it out")
        deadline = query.get("deadline")
        urgent = query.get("urgent", "false")
        if urgent not in ("true", "false"):
            raise BuildError(f"urgent={urgent}: expected true or false")
        route = ROUTES.get(query.get("route", "auto"))
        if route is None:
            raise BuildError(f"route={query['route']}: expected {', '.join(ROUTES)}")
        return cls(
            compression=query.get("compression", "auto"),
            compact=None if compact is None else compact == "true",
            deadline=None if deadline is None else _number(float, "deadline", deadline),
            priority=_number(int, "priority", query.get("priority", "0")),
            topic=query.get("topic"),
            supersedes=query.get("supersedes"),
            route=route,
            urgent=urgent == "true",
        )

    def to_query(self) -> dict[str, str]:
        """Write them into the query of a request; what is left open is left out."""
        query = {"compression": self.compression}
        if self.compact is not None:
            query["compact"] = "true" if self.compact else "false"
        if self.deadline is not None:
            query["deadline"] = repr(self.deadline)
        if self.priority:
            query["priority"] = str(self.priority)
        if self.topic is not None:
            query["topic"] = self.topic
        if self.supersedes is not None:
            query["supersedes"] = self.supersedes
        if self.route is not RouteChoice.AUTO:
            query["route"] = next(name for name, one in ROUTES.items() if one is self.route)
        if self.urgent:
            query["urgent"] = "true"
        return query


def _number(kind: Callable[[str], N], name: str, text: str) -> N:
    try:
        return kind(text)
    except ValueError:
        raise BuildError(f"{name}={text}: expected a number") from None


def capabilities_as_dict(capabilities: Capabilities) -> dict[str, Any]:
    """Return capabilities as plain JSON values, dictionaries by DICTID in hexadecimal."""
    told = asdict(capabilities)
    told["receipts"] = capabilities.receipts.name.lower()
    told["dictionaries"] = [f"{number:08X}" for number in capabilities.dictionaries]
    return told


def status_as_dict(handle_ref: str, status: MessageStatus) -> dict[str, Any]:
    """Return a status as plain JSON values, its state by name."""
    told = {name: getattr(status, name) for name in _STATUS_FIELDS}
    return told | {
        "ref": handle_ref,
        "state": status.state.name,
        "final": status.final,
        "routes": routes_text(status.routes),
    }


def load_or_make_token(path: Path) -> str:
    """Return the token in a file; a missing file is made with a new one, readable by its owner.

    Raises:
        ConfigError: the file cannot be read or made, others may read it, or it is too short.
    """
    try:
        # An empty file is what a kill leaves between making and writing.
        if not path.exists() or not path.stat().st_size:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as made:
                made.write(secrets.token_urlsafe(32) + "\n")
        others_may_read = bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot use it as the control token file: {error}") from None
    if others_may_read:
        raise ConfigError(
            f"{path}: a control token that others may read; make it yours alone: chmod 600 {path}"
        )
    if len(token) < 16:
        raise ConfigError(
            f"{path}: the control token has {len(token)} characters, 16 are the least; "
            "remove the file and a good one is made"
        )
    return token
