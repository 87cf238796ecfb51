"""Which certificates are revoked: by a list in a file, by an SMKI repository, or both."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from cryptography.hazmat.primitives.serialization import Encoding

from dsrsp.errors import ConfigurationError, DccUnreachable
from gbcs.certificates import Certificate
from gbcs.entity_id import EntityId
from gbcs.errors import Route2bRefused, SmkiRepositoryFormatError
from gbcs.route_2b_texts import CloseCode, build_try_later
from gbcs.smki_repository import (
    CertificateStatus,
    build_search_request,
    parse_untrusted_search_response,
)

_LOG = logging.getLogger("dsrsp.route_2b")
_ENTRY = re.compile(r"[0-9a-f]{64}|[0-9a-f]{1,32}")
_MAX_LIST_OCTETS = 64 * 1024 * 1024
_MAX_ANSWER_OCTETS = 65_536
_TIMEOUT_S = 5.0
_AT_ONCE = 8
_PAUSE_S = 10.0
"""After no answer nobody asks for so long: not each of thousands waits for the time-out."""
_MAX_KEPT = 100_000


class StatusSource(Protocol):
    """Says where a party's certificates are in their life."""

    async def statuses(self, entity_id: EntityId) -> dict[int, CertificateStatus]:
        """Return the status of each certificate of a party, by serial number.

        Raises:
            dsrsp.errors.DccUnreachable: no usable answer.
        """
        ...


class SmkiRepository:
    """Asks an SMKI repository over HTTP. Use it with ``async with``.

    Args:
        url: where it is; /services/certificatesearch is appended.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/services/certificatesearch"
        self._session: aiohttp.ClientSession
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def statuses(self, entity_id: EntityId) -> dict[int, CertificateStatus]:
        """Return the status of each certificate of a party, by serial number.

        Raises:
            DccUnreachable: no usable answer.
        """
        try:
            async with (
                self._places,
                self._session.post(self._url, data=build_search_request(entity_id)) as answer,
            ):
                octets = await answer.content.read(_MAX_ANSWER_OCTETS + 1)
                if answer.status != 200 or len(octets) > _MAX_ANSWER_OCTETS:
                    raise DccUnreachable(
                        f"the SMKI repository answered {answer.status}, {len(octets)} octets"
                    )
            return parse_untrusted_search_response(octets)
        except (aiohttp.ClientError, TimeoutError, SmkiRepositoryFormatError) as error:
            raise DccUnreachable(
                f"the SMKI repository at {self._url} gives no answer: "
                f"{type(error).__name__} {error}"
            ) from None


@dataclass(slots=True)
class _Kept:
    at: float
    statuses: dict[int, CertificateStatus]


class Revocations:
    """Says whether a certificate is revoked.

    Args:
        file: the list; None for none. See `Route2bServerConfig.revoked`.
        source: who else is asked; None for nobody.
        required: let nobody in while the source gives no answer.
        fresh_s: how old the source's answer may be, in seconds.

    Raises:
        ConfigurationError: the list cannot be read.
    """

    def __init__(
        self,
        file: Path | None,
        source: StatusSource | None,
        *,
        required: bool = False,
        fresh_s: float,
    ) -> None:
        self._file = file
        self._source = source
        self._required = required
        self._fresh_s = fresh_s
        self._listed: frozenset[str] = frozenset()
        self._seen: tuple[int, int, int] | None = None
        self._kept: dict[EntityId, _Kept] = {}
        self._silent_until = float("-inf")
        if file is not None:
            self._seen = _stamp(file)
            self._listed = read_revoked(file)

    def reread(self) -> None:
        """Read the list again if it has changed; one that cannot be read leaves the old in force.

        A list that was there and is gone, or is damaged, is told in the log each time.
        """
        if self._file is None:
            return
        try:
            stamp = _stamp(self._file)
            if stamp == self._seen:
                return
            listed = read_revoked(self._file)
        except ConfigurationError as error:
            _LOG.error("the list of revoked certificates stays as it was: %s", error)
            return
        self._seen = stamp
        if listed != self._listed:
            _LOG.info("%d revoked certificates are listed, were %d", len(listed), len(self._listed))
        self._listed = listed

    async def check(self, certificate: Certificate, *, fresh: bool = False) -> None:
        """Check one certificate.

        Args:
            certificate: of a device or organisation.
            fresh: ask the source again even when it was asked lately.

        Raises:
            Route2bRefused: it is revoked; or the source is required and gives no answer.
        """
        self.reread()
        serial = f"{certificate.serial:x}"
        if serial in self._listed or _fingerprint(certificate) in self._listed:
            raise Route2bRefused(
                CloseCode.REVOKED, f"certificate {serial} is in the list of revoked ones"
            )
        if self._source is None or certificate.entity_id is None:
            return
        statuses = await self._statuses(self._source, certificate.entity_id, fresh=fresh)
        status = statuses.get(certificate.serial)
        if status is CertificateStatus.REVOKED:
            raise Route2bRefused(
                CloseCode.REVOKED, f"certificate {serial} is revoked, the SMKI repository says"
            )
        if status is None and self._required:
            raise Route2bRefused(
                CloseCode.UNTRUSTED, f"the SMKI repository does not know certificate {serial}"
            )

    async def _statuses(
        self, source: StatusSource, entity_id: EntityId, *, fresh: bool
    ) -> dict[int, CertificateStatus]:
        now = asyncio.get_running_loop().time()
        kept = self._kept.get(entity_id)
        if kept is not None and not fresh and now - kept.at < self._fresh_s:
            return kept.statuses
        try:
            if now < self._silent_until:
                raise DccUnreachable("it gave no answer a moment ago")
            statuses = await source.statuses(entity_id)
        except DccUnreachable as error:
            if now >= self._silent_until:
                _LOG.warning("revocation of %s cannot be asked for: %s", entity_id, error)
                self._silent_until = asyncio.get_running_loop().time() + _PAUSE_S
            if kept is not None:
                return kept.statuses
            if self._required:
                why = "the SMKI repository cannot be asked"
                raise Route2bRefused(
                    CloseCode.TRY_LATER, build_try_later(self._fresh_s, why)
                ) from None
            return {}
        self._kept.pop(entity_id, None)
        self._kept[entity_id] = _Kept(now, statuses)
        if len(self._kept) > _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        return statuses


def read_revoked(file: Path) -> frozenset[str]:
    """Read a list of revoked certificates.

    Returns:
        Serial numbers without leading noughts and SHA-256 fingerprints, lower-case hexadecimal.

    Raises:
        ConfigurationError: it cannot be read, or a line is neither; says which.
    """
    try:
        if file.stat().st_size > _MAX_LIST_OCTETS:
            raise ConfigurationError(f"{file}: more than {_MAX_LIST_OCTETS} octets")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: cannot read the revoked certificates: {error}") from None
    entries = set()
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip().lower()
        if not entry:
            continue
        if not _ENTRY.fullmatch(entry):
            raise ConfigurationError(
                f"{file}, line {number}: {entry[:70]!r} is neither a serial number (up to 32 "
                "hexadecimal digits) nor a SHA-256 (64)"
            )
        entries.add(entry if len(entry) == 64 else f"{int(entry, 16):x}")
    return frozenset(entries)


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot read the revoked certificates: {error}") from None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _fingerprint(certificate: Certificate) -> str:
    return hashlib.sha256(certificate.x509.public_bytes(Encoding.DER)).hexdigest()
