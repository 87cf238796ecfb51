"""A port that is taken: said once, in few words, and before anybody else has heard of the CEM."""

from __future__ import annotations

import errno
import os
import socket
import time

import pytest

from cem.core.routes import KnownOffer
from cem.ports import Changes
from cem.store import SqliteStore
from gbcs import EntityId
from lab.daemon import run_cem
from lab.errors import ConfigError
from lab.pki_files import write_test_pki
from runner_io.http_listening import listen_reason
from smtunnel.routes import RouteOffer, RouteStatus

DEVICE = EntityId.parse("02-53-4D-54-00-00-00-01")

CEM_TOML = """
[control]
listen = "{control}"
token_file = "cem.token"
[gateway]
device_id = "02-53-4D-54-00-00-00-01"
supplier_id = "90-B3-D5-1F-30-01-00-00"
load_controller_id = "90-B3-D5-1F-30-01-00-08"
hub_url = "ws://{hub}"
state = "cem.sqlite"
keys = ["pki/certificates", "pki/devices/02534d5400000001"]
test_mode = true
{more}
"""


def address(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def listeners():
    """The hub, the DSRSP's server, and whoever has our port."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    for listener in made:
        listener.setblocking(False)
    yield made
    for listener in made:
        listener.close()


def leave_offer(path, dsrsp: str) -> None:
    """A state in which an offer of route 2b is to be followed."""
    offer = RouteOffer(
        offer=1,
        addresses=(f"wss://{dsrsp}",),
        pins=(bytes(32),),
        not_before=0,
        not_after=int(time.time()) + 3600,
        message_octets=65536,
    )
    store = SqliteStore(str(path), DEVICE, replay_window=64)
    store.commit(Changes(offer=KnownOffer(offer, RouteStatus.ACCEPTED)))
    store.close()


@pytest.mark.parametrize("face", ["control", "openadr"])
async def test_nobody_hears_of_a_cem_that_cannot_open_its_port(tmp_path, listeners, face) -> None:
    hub, dsrsp, taken = listeners
    write_test_pki(tmp_path / "pki")
    leave_offer(tmp_path / "cem.sqlite", address(dsrsp))
    openadr = f'[openadr]\nlisten = "{address(taken)}"\nstate = ":memory:"\n'
    at = {"control": address(taken) if face == "control" else "127.0.0.1:0", "hub": address(hub)}
    more = openadr if face == "openadr" else ""
    (tmp_path / "cem.toml").write_text(CEM_TOML.format(**at, more=more))
    with pytest.raises(Exception, match="cannot listen") as caught:
        await run_cem(tmp_path / "cem.toml")
    for listener in (hub, dsrsp):
        with pytest.raises(BlockingIOError):
            listener.accept()
    if face == "control":
        assert isinstance(caught.value, ConfigError)
        text = str(caught.value)
        assert text.startswith(
            f"control: cannot listen on {address(taken)}: Address already in use: another program "
            "has that port, or this one runs already; "
        )
        assert text.count("127.0.0.1") == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.EADDRINUSE, "error while attempting to bind on address ('::1', 1)"), None),
        (OSError(errno.EACCES, "(while attempting to bind)"), "Permission denied"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), None),
        (OSError("could not bind on any address out of []"), None),
    ],
)
def test_why_a_port_cannot_be_had_is_said_in_few_words(error, told) -> None:
    reason = listen_reason(error)
    assert "bind on address" not in reason
    assert "[Errno" not in reason
    if error.errno == errno.EADDRINUSE:
        assert reason.startswith(os.strerror(errno.EADDRINUSE) + ": ")
    elif told is not None:
        assert reason == told
    elif isinstance(error, socket.gaierror):
        assert reason == "Name or service not known"
    else:
        assert reason == "could not bind on any address out of []"
