"""``smtunnel dsrsp receive`` against a control interface: no octet changed, none lost."""

from __future__ import annotations

import base64
import errno
import io
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import click
import pytest

from gbcs import EntityId
from lab.cli import ask, control_options, talk
from lab.cli.app import run
from lab.control_client import ReceivedOverControl

PEER = EntityId.parse("02-53-4D-54-00-00-00-01")


class FakeClient:
    """Gives out messages and remembers what was acknowledged."""

    def __init__(self, *messages: bytes) -> None:
        self.waiting = [
            ReceivedOverControl(f"ref-{number}", PEER, message, 1.0, "2b")
            for number, message in enumerate(messages)
        ]
        self.acknowledged: list[str] = []

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def received(self, *, wait_s: float = 0.0) -> list[ReceivedOverControl]:
        return list(self.waiting)

    async def ack(self, ref: str, *, answers: str | None = None) -> None:
        self.acknowledged.append(ref)
        self.waiting = [message for message in self.waiting if message.ref != ref]


@pytest.fixture
def receive(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(client: FakeClient, *arguments: str) -> int:
        monkeypatch.setattr(talk, "client_of", lambda *_: client)
        return run(["dsrsp", "receive", "--wait", "0", *arguments])

    return call


@pytest.mark.parametrize("message", [b"<a>\xc3\xa9</a>", b"", bytes(range(256)), b"\\xff\xff"])
def test_json_tells_every_octet(
    receive: Callable[..., int], capsys: pytest.CaptureFixture[str], message: bytes
) -> None:
    assert receive(FakeClient(message), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    if "message" in told:
        assert told["message"].encode() == message
    else:
        assert base64.b64decode(told["message_base64"]) == message
    assert told["octets"] == len(message)


def test_a_file_has_the_octets(receive: Callable[..., int], tmp_path: Path) -> None:
    client = FakeClient(bytes(range(256)), b"second")
    assert receive(client, "--count", "2", "--out", str(tmp_path / "new")) == 0
    assert (tmp_path / "new" / "ref-0.xml").read_bytes() == bytes(range(256))
    assert client.acknowledged == ["ref-0", "ref-1"]


def test_what_cannot_be_written_is_not_acknowledged(
    receive: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ref-0.xml").mkdir()
    client = FakeClient(b"x")
    assert receive(client, "--out", str(tmp_path)) == 3
    assert client.acknowledged == []
    assert "the operating system refused" in capsys.readouterr().err


def test_what_the_reader_did_not_take_is_not_acknowledged(
    receive: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "gone")

    monkeypatch.setattr("lab.cli.talk.click.echo", gone)
    for stream in ("stdout", "stderr"):  # click wraps them
        monkeypatch.setattr(f"sys.{stream}", getattr(sys, stream))
    client = FakeClient(b"x")
    assert receive(client, "--json") == 1
    assert client.acknowledged == []


def test_no_message_is_exit_code_1(receive: Callable[..., int]) -> None:
    assert receive(FakeClient()) == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    class Client(FakeClient):
        async def echo(self, to: EntityId, *, timeout_s: float) -> float:
            assert (to, timeout_s) == (PEER, 7200.0)
            return 41.5

        async def capabilities(self, to: EntityId) -> dict[str, object] | None:
            return {"window_bits": 12, "dictionaries": ["1D9B0BCE"]} if to == PEER else None

    def call(*arguments: str) -> int:
        monkeypatch.setattr(ask, "client_of", lambda *_: Client())
        return run(["dsrsp", *arguments])

    return call


def test_an_echo_tells_its_seconds(
    asked: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked("echo", "--to", str(PEER)) == 0
    assert capsys.readouterr().out == "there and back in 41.500 s\n"
    assert asked("echo", "--to", str(PEER), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"to": str(PEER), "seconds": 41.5}


def test_capabilities_are_told_or_that_they_are_not_known(
    asked: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked("capabilities", "--to", str(PEER)) == 0
    assert capsys.readouterr().out == "window bits: 12\ndictionaries: 1D9B0BCE\n"
    assert asked("capabilities", "--to", "02-53-4D-54-00-00-00-02") == 1
    assert "has not said yet" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["30s", "5m", "2h", "1.5d", "2999-01-15T17:30:00Z"])
def test_a_deadline_is_a_time_from_now_or_a_time_of_a_zone(text: str) -> None:
    assert control_options._deadline(text) > time.time()


@pytest.mark.parametrize("text", ["", "s", "soon", "30", "2999-01-15T17:30:00", "-"])
def test_what_is_no_deadline_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"zone|expected"):
        control_options._deadline(text)


# On a terminal


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("message", "shown"), [(b"<a/>", b"<a/>\n"), (b"<a/>\n", b"<a/>\n"), (b"\xff", b"\xff\n")]
)
def test_on_a_terminal_a_message_ends_with_its_line(
    receive: Callable[..., int], monkeypatch: pytest.MonkeyPatch, message: bytes, shown: bytes
) -> None:
    for terminal, expected in ((_Terminal, shown), (io.TextIOWrapper, message)):
        octets = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", terminal(octets, encoding="utf-8"))
        assert receive(FakeClient(message)) == 0
        assert octets.getvalue() == expected


# A message that waits for route 2b


STATUS = {
    "ref": "r1",
    "state": "QUEUED",
    "reason": None,
    "final": False,
    "fragments_total": 1,
    "fragments_accepted": 0,
    "fragments_delivered": 0,
    "message_octets": 5,
    "routes": None,
    "receipt_expected": True,
}


class WaitingClient(FakeClient):
    def __init__(self, **more: Any) -> None:
        super().__init__()
        self._more = more

    async def send(self, message: bytes, **_: object) -> dict[str, Any]:
        return STATUS | self._more

    async def status(self, ref: str) -> dict[str, Any]:
        return STATUS | self._more

    async def statuses(self, ref: str) -> AsyncIterator[dict[str, Any]]:
        yield STATUS | self._more
        sent = {"state": "SENT", "routes": "2a", "waits_for_route_2b": False, "by_2a_in_s": None}
        yield STATUS | {"fragments_accepted": 1} | sent


@pytest.mark.parametrize(
    ("by_2a_in_s", "told"),
    [
        (287.4, "route 2b is down: it goes by route 2a in 287 s, or by 2b if that is back"),
        (None, "route 2b is down: it waits for that route alone"),
    ],
)
def test_send_and_status_say_that_a_message_waits_for_route_2b(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    by_2a_in_s: float | None,
    told: str,
) -> None:
    client = WaitingClient(waits_for_route_2b=True, by_2a_in_s=by_2a_in_s)
    monkeypatch.setattr(talk, "client_of", lambda *_: client)
    (tmp_path / "m.xml").write_bytes(b"<a/>")
    assert run(["cem", "send", str(tmp_path / "m.xml")]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines()[:2] == ["queued, ref r1", told]
    assert "route 2b is down" not in shown.out
    assert run(["cem", "status", "r1"]) == 0
    assert f"queued; {told}; 5 octets in 1 fragment, ref r1" in capsys.readouterr().out


def test_nothing_is_said_of_route_2b_where_nothing_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ({}, {"waits_for_route_2b": False, "by_2a_in_s": None}):
        client = WaitingClient(**more)
        monkeypatch.setattr(talk, "client_of", lambda *_, client=client: client)
        assert run(["cem", "status", "r1"]) == 0
        assert "2b" not in capsys.readouterr().out
