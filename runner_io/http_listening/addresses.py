"""Where to listen, and with which TLS."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl


class ListeningError(ValueError):
    """A server cannot listen so; the message says what to change."""


class StrangersCouldSpeak(ListeningError):
    """Other machines would reach a server that cannot tell who calls."""


def split_address(text: str, *, knows_callers: bool) -> tuple[str, int]:
    """Return host and port of host:port.

    Args:
        text: it.
        knows_callers: whether others than this machine may reach it: a certificate tells who calls.

    Raises:
        ListeningError: it is none.
        StrangersCouldSpeak: others would reach it.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ListeningError(f"{text!r}: expected host:port with a port of 0 to 65535")
    if not knows_callers and not _is_loopback(host):
        raise StrangersCouldSpeak(
            f"{text!r}: whoever reaches it could speak, and nothing tells who"
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_tls(certificate: str | None, key: str | None, ca: str | None) -> ssl.SSLContext | None:
    """Return how to serve TLS; None: plain HTTP.

    Args:
        certificate: PEM file of the server's certificate chain; None: no TLS.
        key: PEM file of its private key.
        ca: PEM file with the certificates that a caller's own must go back to; None: any caller.

    Raises:
        ListeningError: a file cannot be used.
    """
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if ca is not None:
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ListeningError(f"must be PEM files that fit: {error}") from None
    return context


def listen_reason(error: OSError) -> str:
    """Return why a port cannot be listened on, in few words.

    asyncio and socket repeat the address, each in its own way, around the system's word.
    """
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    reason = os.strerror(error.errno)
    if error.errno == errno.EADDRINUSE:
        return f"{reason}: another program has that port, or this one runs already"
    return reason
