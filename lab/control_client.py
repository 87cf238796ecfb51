"""Talks to the control interface of a running gateway daemon (see lab.control)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from dsrsp.connecting import connect_reason
from gbcs import EntityId
from gbcs.errors import BuildError
from lab.control_values import SendOptions
from lab.errors import ControlError

_CONNECT_TIMEOUT_S = 10.0
_REF = re.compile(r"[0-9A-Za-z-]{1,100}")
_STATUS_FIELDS = (
    "ref",
    "state",
    "reason",
    "final",
    "fragments_total",
    "fragments_accepted",
    "fragments_delivered",
    "message_octets",
    "routes",
)
_NOT_OURS = "not the control interface of a gateway; the daemon prints its address when it starts"


@dataclass(frozen=True, slots=True)
class ReceivedOverControl:
    """A message that waits at a gateway for its application."""

    ref: str
    peer: EntityId
    message: bytes
    received_at: float
    route: str


class ControlClient:
    """A caller of one daemon's control interface.

    Args:
        url: for example "http://127.0.0.1:8701".
        token: the content of the daemon's token file.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_token_file(cls, url: str, token_file: Path) -> ControlClient:
        """Make a client with the token in a file.

        Raises:
            ControlError: the file cannot be read.
        """
        try:
            token = token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ControlError(
                f"{token_file}: cannot read the control token: {reason}; "
                "the daemon makes the file when it starts: is it running?"
            ) from None
        return cls(url, token)

    async def __aenter__(self) -> ControlClient:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        message: bytes,
        *,
        to: EntityId | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Hand a message to the gateway; returns its first status, with "ref".

        Args:
            message: the octets.
            to: the CEM, at a DSRSP.
            options: the fields of `lab.control.SendOptions`.

        Raises:
            ControlError: the gateway refused it, or cannot be reached.
        """
        query = SendOptions(**options).to_query() | ({} if to is None else {"to": str(to)})
        return await self._json("POST", "/v1/messages", *_STATUS_FIELDS, params=query, data=message)

    async def status(self, ref: str) -> dict[str, Any]:
        """Return the status of a message."""
        return await self._json("GET", f"/v1/messages/{ref}", *_STATUS_FIELDS)

    async def statuses(self, ref: str) -> AsyncIterator[dict[str, Any]]:
        """Yield each status of a message, ending with a final one.

        Raises:
            ControlError: the daemon refused, or went away before the message had ended.
        """
        final = False
        async with self._request("GET", f"/v1/messages/{ref}/statuses") as response:
            await self._raise_for(response)
            try:
                async for line in response.content:
                    status = self._object(json.loads(line), *_STATUS_FIELDS)
                    final = bool(status["final"])
                    yield status
            except ValueError:
                raise self._not_ours(response) from None
            except (aiohttp.ClientError, OSError) as error:
                raise ControlError(f"the daemon at {self._url} went away: {error}") from None
        if not final:
            raise ControlError(
                f"the daemon at {self._url} stopped before message {ref} had ended; it goes on "
                "when the daemon runs again, and this reference still names it"
            )

    async def received(self, *, wait_s: float = 0.0) -> list[ReceivedOverControl]:
        """Return the messages that wait for an ack; waits up to wait_s seconds for the first."""
        answer = await self._json("GET", "/v1/received", "messages", params={"wait_s": str(wait_s)})
        try:
            return [
                ReceivedOverControl(
                    ref=_checked_ref(item["ref"]),
                    peer=EntityId.parse(item["peer"]),
                    message=base64.b64decode(item["message"], validate=True),
                    received_at=item["received_at"],
                    route=item["route"],
                )
                for item in answer["messages"]
            ]
        except (KeyError, TypeError, ValueError, BuildError):
            raise ControlError(
                f"{self._url} gives messages in a form of its own: {_NOT_OURS}"
            ) from None

    async def ack(self, ref: str, *, answers: str | None = None) -> None:
        """Take a received message over; `answers` names the sent message that it answers."""
        query = {} if answers is None else {"answers": answers}
        await self._json("POST", f"/v1/received/{ref}/ack", params=query)

    async def echo(self, to: EntityId, *, timeout_s: float) -> float:
        """Ask a CEM for an echo; returns how long there and back took, in seconds.

        Raises:
            ControlError: none came in time, or the daemon cannot be reached.
        """
        query = {"to": str(to), "timeout_s": str(timeout_s)}
        answer = await self._json("POST", "/v1/echo", "seconds", params=query)
        return float(answer["seconds"])

    async def capabilities(self, to: EntityId) -> dict[str, Any] | None:
        """Return what a CEM has said that it understands; None: nothing yet."""
        query = {"to": str(to)}
        answer = await self._json("GET", "/v1/capabilities", "capabilities", params=query)
        told: dict[str, Any] | None = answer["capabilities"]
        return told

    async def openadr(self) -> dict[str, Any]:
        """Return what stands at the daemon's OpenADR face."""
        told: dict[str, Any] = (await self._json("GET", "/v1/openadr", "openadr"))["openadr"]
        return told

    async def route(self) -> dict[str, Any]:
        """Return how route 2b stands at the daemon."""
        told: dict[str, Any] = (await self._json("GET", "/v1/route", "route"))["route"]
        return told

    async def change_route(self, deed: str, to: EntityId) -> dict[str, Any]:
        """Let a DSRSP offer route 2b to a CEM ("offer") or take its offer back ("withdraw").

        Raises:
            ControlError: the daemon refused, or cannot be reached.
        """
        path, query = f"/v1/route/{deed}", {"to": str(to)}
        told: dict[str, Any] = (await self._json("POST", path, "offer", params=query))["offer"]
        return told

    async def _raise_for(self, response: aiohttp.ClientResponse) -> None:
        if response.status < 400:
            return
        try:
            text = (await response.json())["error"]
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            raise self._not_ours(response) from None
        raise ControlError(str(text))

    def _not_ours(self, response: aiohttp.ClientResponse) -> ControlError:
        return ControlError(
            f"{self._url} answers with HTTP status {response.status} and "
            f"{response.content_type}: {_NOT_OURS}"
        )

    def _object(self, content: Any, *fields: str) -> dict[str, Any]:
        """Return content if it is an object with these fields; ValueError otherwise."""
        if not isinstance(content, dict) or any(name not in content for name in fields):
            raise ValueError("not what the control interface says")
        return content

    def _request(self, method: str, path: str, **options: Any) -> _Request:
        if self._session is None:
            raise ControlError("use the client as a context manager: async with ControlClient(...)")
        return _Request(self._session.request(method, self._url + path, **options), self._url)

    async def _json(self, method: str, path: str, *fields: str, **options: Any) -> dict[str, Any]:
        async with self._request(method, path, **options) as response:
            await self._raise_for(response)
            if response.status == 204:
                return {}
            try:
                return self._object(await response.json(), *fields)
            except (aiohttp.ContentTypeError, ValueError):
                raise self._not_ours(response) from None
            except (aiohttp.ClientError, OSError) as error:
                raise ControlError(f"the daemon at {self._url} went away: {error}") from None


def _checked_ref(ref: str) -> str:
    # Callers name files by it.
    if not _REF.fullmatch(ref):
        raise ValueError("not a reference")
    return ref


class _Request:
    """A request whose connection errors are ours."""

    def __init__(self, context: Any, url: str) -> None:
        self._context = context
        self._url = url

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await self._context.__aenter__()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ControlError(
                f"no answer from the daemon's control interface at {self._url}: "
                f"{connect_reason(error)}; is the daemon running?"
            ) from None
        return response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._context.__aexit__(kind, error, trace)
