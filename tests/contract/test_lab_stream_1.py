"""Stream 1's transport over real sockets: each side shows its certificate, or nothing is said."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from lab.cli.app import run
from lab.errors import DemoError, KeyFolderError
from lab.stream_1 import Answerer, Asker, client_tls, server_tls
from lab.tls_files import write_tls_files


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "tls"
    write_tls_files(folder, ("vtn", "ven"))
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strangers") / "tls"
    write_tls_files(folder, ("vtn", "ven"))
    return folder


async def test_requests_go_over_one_connection_that_is_kept(tls: Path) -> None:
    async with (
        Answerer(server_tls(tls), b"answer") as answerer,
        Asker(answerer.url, client_tls(tls)) as asker,
    ):
        exchanges = [await asker.ask(b"request") for _ in range(5)]
    assert [one.connected for one in exchanges] == [True, False, False, False, False]
    assert {one.answer for one in exchanges} == {b"answer"}
    assert all(one.seconds > 0 for one in exchanges)
    assert answerer.asked == 5


async def test_or_over_a_new_one_each(tls: Path) -> None:
    async with (
        Answerer(server_tls(tls), b"answer") as answerer,
        Asker(answerer.url, client_tls(tls), keep=False) as asker,
    ):
        assert [(await asker.ask(b"request")).connected for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(("server", "client"), [("tls", "strangers"), ("strangers", "tls")])
async def test_another_ca_is_not_believed(
    server: str, client: str, request: pytest.FixtureRequest
) -> None:
    server_folder, client_folder = (request.getfixturevalue(name) for name in (server, client))
    async with (
        Answerer(server_tls(server_folder), b"answer") as answerer,
        Asker(answerer.url, client_tls(client_folder)) as asker,
    ):
        with pytest.raises(DemoError, match=answerer.url):
            await asker.ask(b"request")
    assert answerer.asked == 0


async def test_a_client_without_a_certificate_is_not_answered(tls: Path) -> None:
    context = client_tls(tls)
    bare = type(context)(context.protocol)
    bare.load_verify_locations(tls / "ca.pem")
    async with (
        Answerer(server_tls(tls), b"answer") as answerer,
        Asker(answerer.url, bare) as asker,
    ):
        with pytest.raises(DemoError):
            await asker.ask(b"request")
    assert answerer.asked == 0


async def test_a_refusal_is_an_error_with_its_status(tls: Path) -> None:
    async with (
        Answerer(server_tls(tls), b"answer") as answerer,
        Asker(answerer.url + "/elsewhere", client_tls(tls)) as asker,
    ):
        with pytest.raises(DemoError, match="HTTP status 404"):
            await asker.ask(b"request")


def test_private_keys_are_their_owners_alone(tls: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tls.iterdir()}
    assert modes["vtn.key"] == modes["ven.key"] == 0o600
    assert stat.S_IMODE(tls.stat().st_mode) == 0o700
    assert not any(b"PRIVATE" in path.read_bytes() for path in tls.glob("*.pem"))


def test_a_folder_in_use_is_not_taken(tls: Path) -> None:
    with pytest.raises(KeyFolderError, match="not empty"):
        write_tls_files(tls, ("vtn",))


@pytest.mark.parametrize("names", [("ca",), ("a/b",), ("..",), ("",), ("vtn", "vtn")])
def test_a_name_that_cannot_be_a_files_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(KeyFolderError, match="cannot be the name"):
        write_tls_files(tmp_path, names)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_keys_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(KeyFolderError, match="stream-1 keys"):
        server_tls(tmp_path)


async def test_the_port_is_taken(tls: Path) -> None:
    async with Answerer(server_tls(tls), b"answer") as answerer:
        port = int(answerer.url.split(":")[2].split("/")[0])
        with pytest.raises(DemoError, match="cannot listen"):
            await Answerer(server_tls(tls), b"", port=port).__aenter__()


def test_the_command_line(tls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stream-1", "keys", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "ven.key").exists()
    assert run(["stream-1", "ask", "--tls", str(tls), "https://127.0.0.1:1/x"]) == 3
    assert "https://127.0.0.1:1/x" in capsys.readouterr().err


async def test_asking_from_the_command_line(tls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Answerer(server_tls(tls), b"answer") as answerer:
        arguments = ["stream-1", "ask", "--tls", str(tls), "--count", "3", answerer.url]
        assert await asyncio.to_thread(run, arguments) == 0
        assert "2 on a kept connection" in capsys.readouterr().out
        assert await asyncio.to_thread(run, [*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["request_octets"], told["answer_octets"]) == (1024, 6)
    assert [one["new_connection"] for one in told["exchanges"]] == [True, False, False]
