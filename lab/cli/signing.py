"""``smtunnel signing-service``: keeps the supplier's key apart from the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import click
from aiohttp import web

from gbcs.certificates import Role
from lab.cli.talk import run_checked
from lab.config import load_config
from lab.control import load_or_make_token
from lab.daemon import (
    announce_ready,
    check_loopback,
    inherited_listener,
    split_address,
    stop_event,
)
from lab.errors import ConfigError
from lab.journal import JsonLinesJournal
from lab.keys import read_keystore
from lab.signing_service import SigningConfig, SigningService


@click.command()
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The service's TOML file.",
)
def signing_service(config_path: Path) -> None:
    """Sign the supplier's ECS46a pre-commands for a gateway, and nothing else.

    \b
    supplier_id = "90-B3-D5-1F-30-01-00-00"
    keys = ["pki/certificates", "pki/dsrsp"]
    listen = "127.0.0.1:8470"
    token_file = "signing.token"
    audit = "signing-audit.jsonl"
    signatures_per_minute = 600

    The gateway's file then has: [gateway.signing] url = "http://127.0.0.1:8470",
    token_file = "signing.token". See specs/signing-service.md.
    """
    run_checked(_serve(config_path))


async def _serve(config_path: Path) -> None:
    config = load_config(config_path, SigningConfig)
    base = config_path.resolve().parent
    keystore = read_keystore((base / f for f in config.keys), test_mode=config.test_mode)
    signer = keystore.signer(config.supplier_id, role=Role.SUPPLIER)
    tls = config.tls(base)
    stop = stop_event("signing")
    with contextlib.ExitStack() as stack:
        audit = stack.enter_context(JsonLinesJournal(base / config.audit, "signing", time.time))
        service = SigningService(
            config.supplier_id,
            signer,
            load_or_make_token(base / config.token_file),
            per_minute=config.signatures_per_minute,
            clock=time.time,
            audit=audit,
        )
        runner = web.AppRunner(service.app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            listener = inherited_listener(config.listen)
            site: web.BaseSite
            if listener is not None:
                site = web.SockSite(runner, listener, ssl_context=tls)
            else:
                host, port = split_address(config.listen)
                if tls is None:
                    check_loopback(host)
                site = web.TCPSite(runner, host, port, ssl_context=tls)
            await site.start()
            announce_ready("signing", port=runner.addresses[0][1])
            await stop.wait()
        except OSError as error:
            raise ConfigError(f"cannot listen on {config.listen}: {error}") from None
        finally:
            await asyncio.shield(runner.cleanup())
