"""``smtunnel stream-1``: HTTPS with mutual TLS, without a tunnel, to compare the routes with."""

from __future__ import annotations

import asyncio
import json
import statistics
from pathlib import Path

import click

from lab.cli.control_options import json_option, run_checked
from lab.stream_1 import (
    CLIENT_NAME,
    SERVER_NAME,
    Answerer,
    Asker,
    Exchange,
    client_tls,
    server_tls,
)
from lab.tls_files import write_tls_files

_EXAMPLE_OCTETS = 1024

_tls_option = click.option(
    "--tls",
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder with ca.pem and the certificates and keys, as `smtunnel stream-1 keys` makes it.",
)


@click.group("stream-1")
def stream_1() -> None:
    """OpenADR without a tunnel: directly, over HTTPS with mutual TLS.

    \b
    The applications, each in a terminal of its own:
      smtunnel stream-1 keys tls
      python -m lab.openadr_demo vtn --tls tls --port 8443
      python -m lab.openadr_demo ven --tls tls --url https://127.0.0.1:8443/OpenADR2/Simple/2.0b
    The transport alone, to measure it:
      smtunnel stream-1 answer --tls tls --port 8444
      smtunnel stream-1 ask --tls tls https://127.0.0.1:8444/OpenADR2/Simple/2.0b/EiEvent
    """


@stream_1.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("names", nargs=-1)
def keys(folder: Path, names: tuple[str, ...]) -> None:
    """Make a test CA and, from it, certificates and keys for servers and clients on this machine.

    FOLDER must be new or empty. NAMES: of whom, vtn and ven if none is given; the files are
    NAME.pem and NAME.key, and ca.pem. The OpenADR faces can use them too: specs/guides.
    """
    wanted = names or (SERVER_NAME, CLIENT_NAME)
    write_tls_files(folder, wanted)
    files = [f"{name}.{suffix}" for name in wanted for suffix in ("pem", "key")]
    click.echo(f"{folder}: ca.pem, {', '.join(files)}")


def _octets(path: Path | None) -> bytes:
    return bytes(_EXAMPLE_OCTETS) if path is None else path.read_bytes()


@stream_1.command()
@_tls_option
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8444, show_default=True)
@click.option(
    "--answer",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What it answers; without it 1024 octets.",
)
def answer(tls: Path, host: str, port: int, answer: Path | None) -> None:
    """Answer every POST with the same octets, until Ctrl-C."""
    answerer = Answerer(server_tls(tls), _octets(answer), host=host, port=port)

    async def run() -> None:
        async with answerer:
            click.echo(answerer.url)
            await asyncio.Event().wait()

    run_checked(run())


@stream_1.command()
@_tls_option
@click.argument("url")
@click.option(
    "--request",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What is posted; without it 1024 octets.",
)
@click.option("--count", type=click.IntRange(1), default=100, show_default=True)
@click.option("--new-connections", is_flag=True, help="Connect anew for each request.")
@json_option
def ask(
    tls: Path, url: str, request: Path | None, count: int, new_connections: bool, as_json: bool
) -> None:
    """Post a request again and again; tell how long request and answer took together."""
    octets = _octets(request)

    async def run() -> list[Exchange]:
        async with Asker(url, client_tls(tls), keep=not new_connections) as asker:
            return [await asker.ask(octets) for _ in range(count)]

    exchanges: list[Exchange] = run_checked(run())
    if as_json:
        told = {
            "request_octets": len(octets),
            "answer_octets": len(exchanges[0].answer),
            "exchanges": [
                {"seconds": round(one.seconds, 6), "new_connection": one.connected}
                for one in exchanges
            ],
        }
        click.echo(json.dumps(told))
        return
    for words, new in (("with a new connection", True), ("on a kept connection", False)):
        times = sorted(one.seconds * 1000 for one in exchanges if one.connected is new)
        if times:
            click.echo(
                f"{len(times)} {words}: median {statistics.median(times):.2f} ms, "
                f"{times[0]:.2f} to {times[-1]:.2f} ms"
            )
