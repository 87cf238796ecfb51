"""TLS of the OpenADR face, and where it may listen without."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl

from aiohttp import web

from cem.errors import ConfigurationError
from cem.openadr.config import OpenAdrConfig


def server_context(config: OpenAdrConfig) -> ssl.SSLContext | None:
    """Return how to serve TLS; None: plain HTTP.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    if config.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.certificate, config.key)
        if config.ven_ca is not None:
            context.load_verify_locations(config.ven_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"openadr: certificate, key and ven_ca must be PEM files that fit: {error}"
        ) from None
    return context


def split_listen(config: OpenAdrConfig) -> tuple[str, int]:
    """Return host and port to listen on.

    Raises:
        ConfigurationError: they are none, or would let strangers speak as the VEN.
    """
    host, _, port = config.listen.rpartition(":")
    host = host.strip("[]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigurationError(
            f"openadr: listen = {config.listen!r}: expected host:port with a port of 0 to 65535"
        )
    if config.ven_ca is None and not config.plain_http and not _is_loopback(host):
        raise ConfigurationError(
            f"openadr: listen = {config.listen!r} without ven_ca: whoever reaches it could "
            "speak as the VEN. Give certificate, key and ven_ca, or set plain_http = true where "
            "nobody else reaches it"
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def fingerprint(request: web.Request) -> str:
    """Return SHA-256 of the caller's certificate in hexadecimal; "" if it showed none."""
    tls = None if request.transport is None else request.transport.get_extra_info("ssl_object")
    certificate = None if tls is None else tls.getpeercert(binary_form=True)
    return "" if not certificate else hashlib.sha256(certificate).hexdigest()
