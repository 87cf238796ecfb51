"""`send` and `status` as a person meets them: through a pipe, interrupted, asked for later."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

from lab.local_system import LocalSystem


async def _start(system: LocalSystem, *arguments: str) -> asyncio.subprocess.Process:
    part, command, *rest = arguments
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "lab", part, command),
        *("--control", system.control_url(part), "--token-file", str(system.token_file(part))),
        *rest,
        stdout=PIPE,
        stderr=PIPE,
    )


async def test_send_tells_each_state_and_status_remembers(
    new_system: Callable[..., LocalSystem], tmp_path: Path
) -> None:
    message = tmp_path / "message.xml"
    message.write_bytes(b"<oadrPayload/>")
    async with new_system() as system:
        device = str(system.identities.device_id)
        sending = await _start(system, "dsrsp", "send", "--to", device, str(message))
        output, progress = await sending.communicate()
        assert sending.returncode == 0, progress.decode()
        first, *_ = progress.decode().splitlines()
        assert first.startswith("queued, ref ")
        ref = first.removeprefix("queued, ref ")
        # One line for a pipe, whatever its width.
        assert output.decode() == (
            f"reassembled by the far end; 14 octets in 1 fragment, ref {ref}\n"
        )
        asking = await _start(system, "dsrsp", "status", ref)
        assert (await asking.communicate())[0] == output
        unknown = await _start(system, "dsrsp", "status", "nonsense")
        assert b"nonsense" in (await unknown.communicate())[1]
        assert unknown.returncode == 3


async def test_after_ctrl_c_the_daemon_goes_on_and_says_so(
    new_system: Callable[..., LocalSystem], tmp_path: Path
) -> None:
    message = tmp_path / "message.xml"
    message.write_bytes(b"<oadrPayload/>")
    async with new_system() as system:
        await system.stop("cem")
        device = str(system.identities.device_id)
        sending = await _start(system, "dsrsp", "send", "--to", device, str(message))
        assert sending.stderr is not None
        first = (await sending.stderr.readline()).decode().strip()
        sending.send_signal(signal.SIGINT)
        _, rest = await sending.communicate()
        ref = first.removeprefix("queued, ref ")
        assert sending.returncode == 130
        assert f"the daemon goes on sending: ref {ref}" in rest.decode()
        assert "Traceback" not in rest.decode()
        await system.start("cem")
        async with system.control("cem") as cem:
            assert [r.message for r in await cem.received(wait_s=30)] == [b"<oadrPayload/>"]


async def test_a_deadline_passes_and_a_newer_message_supersedes(
    new_system: Callable[..., LocalSystem], tmp_path: Path
) -> None:
    message = tmp_path / "message.bin"
    message.write_bytes(bytes(range(256)))
    async with new_system() as system:
        await system.stop("cem")
        device = str(system.identities.device_id)
        to = ("dsrsp", "send", "--to", device)
        old = await _start(system, *to, "--topic", "event 7", str(message))
        assert old.stderr is not None
        await old.stderr.readline()  # queued
        late = await _start(system, *to, "--deadline", "0.5s", "--priority", "3", str(message))
        output, _ = await late.communicate()
        assert late.returncode == 1
        assert "its deadline passed" in output.decode()
        newer = await _start(system, *to, "--topic", "event 7", str(message))
        output, _ = await old.communicate()
        assert old.returncode == 1
        assert "superseded by" in output.decode()
        newer.send_signal(signal.SIGINT)
        await newer.communicate()
