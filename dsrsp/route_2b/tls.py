"""TLS of the server of route 2b: certificate and key, context, little memory a connection."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import stat
from asyncio import sslproto
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dsrsp.errors import ConfigurationError

BUFFER_OCTETS = 32 * 1024
"""A connection's receive buffer: two TLS records. The library's own 256 KiB would be 1.3 GB for
5,000 connections."""


class SmallBufferTls(sslproto.SSLProtocol):
    """asyncio's TLS with a small receive buffer.

    Deviation: asyncio has no setting for it, and its class is not among the documented ones. What
    is used of it here, the attribute and the constructor, is the same from Python 3.11 on.
    """

    max_size = BUFFER_OCTETS


def start_tls(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    timeout_s: float,
) -> asyncio.Future[None]:
    """Begin the server's side of TLS on a plain connection.

    ``protocol.connection_made`` is called with the encrypted transport when TLS stands, before any
    of its data.

    Returns:
        Done when TLS stands; with an exception when it does not come to that.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    # Typed for whole seconds only, which it does not need.
    make: Any = SmallBufferTls
    tls = make(
        loop,
        protocol,
        context,
        waiter,
        server_side=True,
        ssl_handshake_timeout=timeout_s,
        # After our close_notify nobody's answer is of interest.
        ssl_shutdown_timeout=1.0,
    )
    transport.set_protocol(tls)
    tls.connection_made(transport)
    transport.resume_reading()
    return waiter


def read_certificate_sha256(certificate: Path) -> bytes:
    """Return the pin of a certificate file: SHA-256 of its DER, 32 octets.

    Raises:
        ConfigurationError: it cannot be read, or is no certificate.
    """
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{certificate}: cannot read route 2b's TLS certificate: {error.strerror}; "
            "`smtunnel pki route-2b-certificate DIR` makes one"
        ) from None
    except ValueError:
        raise ConfigurationError(f"{certificate}: not a certificate in PEM") from None
    return hashlib.sha256(loaded.public_bytes(Encoding.DER)).digest()


def make_server_context(certificate: Path, private_key: Path, *, tls_1_2: bool) -> ssl.SSLContext:
    """Return the TLS context of the server.

    Args:
        certificate: PEM file.
        private_key: PEM file, unencrypted, readable by its owner alone.
        tls_1_2: also take TLS 1.2.

    Raises:
        ConfigurationError: a file cannot be used, or others may read the key.
    """
    try:
        status = private_key.stat()
    except OSError as error:
        raise ConfigurationError(
            f"{private_key}: cannot read route 2b's TLS key: {error.strerror}; "
            "`smtunnel pki route-2b-certificate DIR` makes one"
        ) from None
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            f"{private_key}: a private key that belongs to user {status.st_uid}, who may change "
            "it: it must be of the user that runs the DSRSP, or of root"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigurationError(
            f"{private_key}: a private key that others may read; make it yours alone: "
            f"chmod 600 {private_key}"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if tls_1_2 else ssl.TLSVersion.TLSv1_3
    # Every connection shows its certificate anew, for the pin; and without tickets there is no
    # early data, which could be replayed. They would cost memory and save nothing.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        # The empty password keeps OpenSSL from asking the terminal for one.
        context.load_cert_chain(certificate, private_key, password=lambda: b"")
    except (OSError, ValueError):
        raise ConfigurationError(
            f"{certificate} and {private_key} are not a certificate and its unencrypted private "
            "key in PEM"
        ) from None
    return context
