"""README.md does what it says: its commands exist, its programs run, its links lead somewhere."""

from __future__ import annotations

import asyncio
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cem import Gateway as CemGateway
from dcc_sim import Simulator
from dsrsp import Gateway as DsrspGateway
from gbcs import EntityId
from lab.cli.app import cli
from lab.config import CemFile, DccSimFile, DsrspFile, load_config
from lab.keys import read_keystore
from lab.pki_files import write_test_pki

_ROOT = Path(__file__).resolve().parents[3]
_EXAMPLES = _ROOT / "lab" / "examples"
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    *(str(p.relative_to(_ROOT)) for p in sorted(_ROOT.glob("specs/**/*.md"))),
]
_PROGRAMS = re.findall(r"^```python\n(.*?)^```$", _README, re.M | re.S)
_COMMAND_LINES = re.findall(r"^    ((?:smtunnel|make) .*?)(?:  +#.*)?$", _README, re.M)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def try_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a reader has after README's first commands, with ports that are free."""
    write_test_pki(tmp_path / "pki")
    ports = {str(port): str(_free_port()) for port in (1880, 8079, 8083, 8090)}
    for example in _EXAMPLES.glob("*.toml"):
        text = example.read_text(encoding="utf-8")
        for port, free in ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        (tmp_path / example.name).write_text(text, encoding="utf-8")
    trace = tmp_path / "trace"
    (trace / "openadr").mkdir(parents=True)
    (trace / "keys").mkdir()
    for name in ("event.xml", "trace/openadr/5-oadrCreatedEvent.xml"):
        (tmp_path / name).write_bytes(b"<oadrPayload/>" * 30)
    (trace / "0011-gbcs-command.hex").write_text("DD\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", _DOCUMENTS)
def test_links_and_paths_lead_somewhere(document: str) -> None:
    text = (_ROOT / document).read_text(encoding="utf-8")
    beside = (_ROOT / document).parent
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (beside / target).exists(), f"{document}: no {target}"


def test_the_modules_that_readme_names_exist() -> None:
    table = _README.partition("## From module to specification")[2]
    packages = "smtunnel|gbcs|dcc_sim|cem|dsrsp|lab|openadr_xml|runner_io"
    named = re.findall(rf"`((?:{packages})/[\w/.]*)`", table)
    assert len(named) > 10
    for path in named:
        assert (_ROOT / path).exists(), path


def _check_usage(arguments: list[str]) -> None:
    """Find the command that is meant and let click check its options and arguments."""
    command: click.Command = cli
    names = ["smtunnel"]
    while isinstance(command, click.Group):
        context = click.Context(command, info_name=names[-1])
        found = command.get_command(context, arguments[0]) if arguments else None
        if found is None:
            if arguments and not arguments[0].startswith("-"):
                raise click.UsageError(f"no such command: {arguments[0]}")
            break
        command = found
        names.append(arguments.pop(0))
    command.make_context(" ".join(names), arguments).close()


@pytest.mark.parametrize("line", _COMMAND_LINES)
def test_the_command_lines_are_right_usage(line: str, try_folder: Path) -> None:
    program, *arguments = shlex.split(re.split(r" [>|] ", line)[0])
    if program == "make":
        makefile = (_ROOT / "Makefile").read_text(encoding="utf-8")
        assert f"\n{arguments[0]}:" in makefile
        return
    _check_usage(arguments)


@pytest.mark.parametrize(
    "line", ["nonsense", "dsrsp nonsense", "cost --colour event.xml", "dsrsp send event.xml"]
)
def test_a_wrong_command_line_would_be_found(line: str, try_folder: Path) -> None:
    with pytest.raises(click.UsageError):
        _check_usage(shlex.split(line))


def test_the_make_targets_named_in_passing_exist() -> None:
    makefile = (_ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z]+)`", _README):
        assert f"\n{target}:" in makefile, target


def test_the_example_configurations_are_those_of_the_command_line(try_folder: Path) -> None:
    for part in ("dcc-sim", "dsrsp", "cem", "signing-service"):
        shown = subprocess.run(
            [sys.executable, "-W", "error", "-m", "lab", part, "--example-config"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert shown.stdout == (_EXAMPLES / f"{part}.toml").read_text(encoding="utf-8")


def test_the_cem_makers_program_runs(tmp_path: Path) -> None:
    (program,) = [text for text in _PROGRAMS if "Reassembler(" in text]
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "b'<oadrPayload/>'\n"


async def _started(program: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_cem_makers_gateway_sends_and_receives(try_folder: Path) -> None:
    guide = (_ROOT / "specs" / "guides" / "your-cem.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", guide, re.M | re.S)
    simulator_file = load_config(try_folder / "dcc-sim.toml", DccSimFile).simulator
    dsrsp_file = load_config(try_folder / "dsrsp.toml", DsrspFile).gateway
    device = EntityId.parse("02-53-4D-54-00-00-00-01")
    keys = read_keystore([try_folder / "pki"], test_mode=True)
    async with Simulator(simulator_file, keys), DsrspGateway(dsrsp_file, keys) as dsrsp:
        running = await _started(program)
        try:
            async with asyncio.timeout(40):
                async for received in dsrsp.received():
                    await received.ack()
                    assert received.message == (try_folder / "event.xml").read_bytes()
                    await dsrsp.send(device, b"<oadrAnswer/>")
                    break
                output, errors = await running.communicate()
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
    assert running.returncode == 0, errors.decode()
    assert output.decode() == "90-B3-D5-1F-30-01-00-00 <oadrAnswer/>\nSENT 1 of 1\n"


async def test_the_dsrsps_program_sends_and_receives(try_folder: Path) -> None:
    (program,) = [text for text in _PROGRAMS if "dsrsp.Gateway(" in text]
    simulator_file = load_config(try_folder / "dcc-sim.toml", DccSimFile).simulator
    cem_file = load_config(try_folder / "cem.toml", CemFile).gateway
    keys = read_keystore([try_folder / "pki"], test_mode=True)
    async with Simulator(simulator_file, keys), CemGateway(cem_file, keys) as cem:
        running = await _started(program)
        try:
            async with asyncio.timeout(40):
                async for received in cem.received():
                    await received.ack()
                    assert received.message == (try_folder / "event.xml").read_bytes()
                    await cem.send(b"<oadrAnswer/>")
                    break
                output, errors = await running.communicate()
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
    assert running.returncode == 0, errors.decode()
    assert "REASSEMBLED 1 of 1" in output.decode()
    assert "02-53-4D-54-00-00-00-01 <oadrAnswer/>" in output.decode()
