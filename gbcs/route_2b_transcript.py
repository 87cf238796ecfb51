"""What both ends of route 2b's handshake sign: who speaks to whom, and on which connection.

::

    "smtunnel route 2b client" NUL   or   "smtunnel route 2b server" NUL
    version(1) || device EUI(8) || DSRSP EUI(8) || client nonce(32) || server nonce(32)
    || SHA-256 of the DER of the server's TLS certificate(32)

No GBCS signature can stand for one: what GBCS signs begins with the octet 09.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from gbcs.entity_id import EntityId
from gbcs.errors import FormatError
from gbcs.route_2b_texts import NONCE_OCTETS, VERSION

FINGERPRINT_OCTETS: Final = 32
_CLIENT_CONTEXT: Final = b"smtunnel route 2b client\x00"
_SERVER_CONTEXT: Final = b"smtunnel route 2b server\x00"
_FIELDS: Final = struct.Struct(f">B8s8s{NONCE_OCTETS}s{NONCE_OCTETS}s{FINGERPRINT_OCTETS}s")


@dataclass(frozen=True, slots=True)
class Transcript:
    """What both ends sign.

    Args:
        version: of the handshake.
        device: the client.
        dsrsp: the server.
        client_nonce: of the hello.
        server_nonce: of the challenge.
        certificate_sha256: SHA-256 of the DER of the server's TLS certificate.
    """

    version: int
    device: EntityId
    dsrsp: EntityId
    client_nonce: bytes
    server_nonce: bytes
    certificate_sha256: bytes

    def client_octets(self) -> bytes:
        """Return what the device signs."""
        return _CLIENT_CONTEXT + self._octets()

    def server_octets(self) -> bytes:
        """Return what the DSRSP signs."""
        return _SERVER_CONTEXT + self._octets()

    def _octets(self) -> bytes:
        return _FIELDS.pack(
            self.version,
            self.device.octets,
            self.dsrsp.octets,
            self.client_nonce,
            self.server_nonce,
            self.certificate_sha256,
        )


def parse_untrusted_server_octets(octets: bytes) -> Transcript:
    """Read what a DSRSP is to sign, for who signs in its name.

    Args:
        octets: what `Transcript.server_octets` built.

    Raises:
        FormatError: something else, of another version, or one end has sent the other's nonce.
    """
    context, fields = octets[: len(_SERVER_CONTEXT)], octets[len(_SERVER_CONTEXT) :]
    if context != _SERVER_CONTEXT:
        raise FormatError(
            f"found {context!r}, expected {_SERVER_CONTEXT!r}: a DSRSP signs nothing else in a "
            "handshake",
            offset=0,
            field="context",
        )
    if len(fields) != _FIELDS.size:
        raise FormatError(
            f"found {len(octets)} octets, expected {len(_SERVER_CONTEXT) + _FIELDS.size}"
        )
    version, device, dsrsp, client_nonce, server_nonce, certificate_sha256 = _FIELDS.unpack(fields)
    if version != VERSION:
        raise FormatError(
            f"version {version}, known is {VERSION}", offset=len(_SERVER_CONTEXT), field="version"
        )
    if client_nonce == server_nonce:
        raise FormatError("both nonces are the same", field="server nonce")
    return Transcript(
        version, EntityId(device), EntityId(dsrsp), client_nonce, server_nonce, certificate_sha256
    )
