"""``smtunnel signing-service``: keeps the supplier's key apart from the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import click
from aiohttp import web

from gbcs.certificates import Role
from lab.cli.control_options import run_checked
from lab.config import load_config
from lab.control_values import load_or_make_token
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
from runner_io.http_listening import listen_reason

_EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "signing-service.toml"


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The service's TOML file.",
)
@click.option(
    "--example-config", is_flag=True, help="Print a commented configuration file and stop."
)
def signing_service(config_path: Path | None, example_config: bool) -> None:
    """Sign as the supplier for a gateway: ECS46a pre-commands, messages and proofs of route 2b.

    \b
    smtunnel signing-service --example-config > signing-service.toml
    smtunnel signing-service --config signing-service.toml

    The gateway's file then has, at its end:

    \b
    [gateway.signing]
    url = "http://127.0.0.1:8470"
    token_file = "signing.token"

    The protocol: specs/signing-service.md.
    """
    if example_config:
        click.echo(_EXAMPLE.read_text(encoding="utf-8"), nl=False)
        return
    if config_path is None:
        raise click.UsageError("give --config FILE (see --example-config for one to start from)")
    run_checked(_serve(config_path))


async def _serve(config_path: Path) -> None:
    config = load_config(config_path, SigningConfig)
    base = config_path.resolve().parent
    keystore = read_keystore((base / f for f in config.keys), test_mode=config.test_mode)
    signer = keystore.signer(config.supplier_id, role=Role.SUPPLIER)
    tls, policy = config.tls(base), config.policy()
    stop = stop_event("signing")
    with contextlib.ExitStack() as stack:
        audit = stack.enter_context(JsonLinesJournal(base / config.audit, "signing", time.time))
        service = SigningService(
            config.supplier_id,
            signer,
            load_or_make_token(base / config.token_file),
            policy=policy,
            message_octets=config.route_2b_message_octets,
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
            raise ConfigError(f"cannot listen on {config.listen}: {listen_reason(error)}") from None
        finally:
            await asyncio.shield(runner.cleanup())
