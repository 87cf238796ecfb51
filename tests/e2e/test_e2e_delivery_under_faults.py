"""Both directions busy through a network that loses and doubles, and a kill of each process."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from lab.control_client import ControlClient
from lab.errors import ControlError
from lab.local_system import LocalSystem

MESSAGES = 24  # each way
LIMIT_S = 120.0  # a hang, not slowness; it takes a quarter of that on a busy machine

FAULTY = """
summary = "Loses, doubles and swaps in both directions, all the time."
default_region = "far"

[regions.far.latency_down]
value = { kind = "lognormal", median_s = 1.5, sigma = 0.8, max_s = 20.0 }
standing = "assumed"
source = "short, for a test"

[regions.far.latency_up]
value = { kind = "lognormal", median_s = 1.5, sigma = 0.8, max_s = 20.0 }
standing = "assumed"
source = "short, for a test"

[regions.far.loss]
value = { good_mean_s = 100.0, bad_mean_s = 10.0, loss_good = 0.05, loss_bad = 0.6 }
standing = "assumed"
source = "enough that many messages meet it"

[regions.far.duplicate_probability]
value = 0.1
standing = "assumed"
source = "enough that many messages meet it"

[regions.far.reorder_probability]
value = 0.2
standing = "assumed"
source = "enough that many messages meet it"

[regions.far.reorder_delay]
value = { kind = "exponential", mean_s = 5.0, max_s = 30.0 }
standing = "assumed"
source = "longer than the way takes"

[retries.attempts]
value = 2
standing = "assumed"
source = "some losses are left for the gateways"

[retries.interval_s]
value = 5.0
standing = "assumed"
source = "short, for a test"

[retries.contact_timeout_s]
value = 15.0
standing = "assumed"
source = "short, for a test"

[retries.response_timeout_s]
value = 15.0
standing = "assumed"
source = "short, for a test"
"""


def _scenario() -> str:
    """Losses and duplicates where the network does not reach: the exchanges with the user."""
    hops = (("drop", "request"), ("drop", "answer"), ("drop", "post"), ("duplicate", "post"))
    return "\n".join(
        f'[[fault]]\nkind = "{kind}"\nhop = "{hop}"\nat_s = {at_s}\ncount = 3\n'
        for at_s in (5.0, 60.0, 120.0)
        for kind, hop in hops
    )


SETTINGS = {
    "simulator": """
        network = "faulty.toml"
        network_seed = 7
        network_time_scale = 20.0
        scenario = "scenario.toml"
        post_backoff_s = 0.1
        post_backoff_max_s = 0.5
        post_timeout_s = 2.0
        """,
    "dsrsp": """
        fragments_in_flight = 8
        attempt_timeout_s = 1.0
        retry_first_s = 0.05
        retry_max_s = 0.5
        response_timeout_s = 5.0
        resume_grace_s = 3.0
        fragment_attempts = 50
        fragment_retry_first_s = 0.1
        fragment_retry_max_s = 1.0
        reason_grace_s = 5.0
        receipt_batch_s = 0.3
        missing_after_s = 0.5
        """,
    "cem": """
        reconnect_min_s = 0.05
        reconnect_max_s = 0.5
        link_timeout_s = 2.0
        alerts_per_window = 0
        fragment_attempts = 50
        receipt_timeout_s = 1.5
        receipt_timeout_max_s = 3.0
        """,
}


class Reader:
    """The application at one end: takes over whatever arrives, also across kills of its daemon."""

    def __init__(self, changed: asyncio.Condition) -> None:
        self.contents: dict[str, bytes] = {}
        self.given_out: Counter[str] = Counter()
        self._changed = changed

    async def run(self, new_client: Callable[[], ControlClient]) -> None:
        while True:
            try:
                async with new_client() as client:
                    for received in await client.received(wait_s=300):
                        self.given_out[received.ref] += 1
                        # What is given out again, for its ack was lost, is the same.
                        known = self.contents.setdefault(received.ref, received.message)
                        assert known == received.message
                        await client.ack(received.ref)
                        async with self._changed:
                            self._changed.notify_all()
            except ControlError:
                continue  # killed; connecting waits until it is back


def _messages(seed: int) -> list[bytes]:
    random = Random(seed)
    sizes = [0, 1, 79, 80, 400, 1500]
    return [
        f"{seed}/{n} ".encode() + random.randbytes(sizes[n % len(sizes)]) for n in range(MESSAGES)
    ]


def _all_have(readers: Iterable[Reader], least: int) -> bool:
    return all(len(reader.contents) >= least for reader in readers)


async def _until(changed: asyncio.Condition, holds: Callable[[], bool]) -> None:
    async with changed:
        await changed.wait_for(holds)


async def _end_of(new_client: Callable[[], ControlClient], ref: str) -> dict[str, Any]:
    async with new_client() as client:
        return [status async for status in client.statuses(ref)][-1]


def _check(
    ends: list[dict[str, Any]], sent: list[bytes], contents: dict[str, bytes]
) -> list[dict[str, Any]]:
    """Each message arrived exactly once, or failed with a reason; returns the failed."""
    times = Counter(contents.values())
    failed = []
    for status, message in zip(ends, sent, strict=True):
        assert times[message] <= 1, (status, times[message])
        if status["state"] == "FAILED":
            assert status["reason"], status
            failed.append(status)
        else:
            assert status["state"] == "REASSEMBLED", status
            assert times[message] == 1, status
    assert set(times) <= set(sent)
    return failed


def _rows_of_messages(state: Path) -> dict[str, int]:
    """How many rows the tunnel's end still keeps, by kind, of messages and their fragments."""
    with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM tunnel")]
    kinds = Counter(key.split("/", 2)[1] for key in keys if key.split("/", 2)[-1][:1] != "~")
    return {kind: kinds[kind] for kind in ("m", "s", "f") if kinds[kind]}


async def test_busy_both_ways_with_faults_and_a_kill_of_each(
    tmp_path: Path, new_system: Callable[..., LocalSystem]
) -> None:
    (tmp_path / "faulty.toml").write_text(FAULTY, encoding="utf-8")
    (tmp_path / "scenario.toml").write_text(_scenario(), encoding="utf-8")
    changed = asyncio.Condition()
    readers = {name: Reader(changed) for name in ("cem", "dsrsp")}
    down, up = _messages(1), _messages(2)
    async with new_system(settings=SETTINGS) as system, asyncio.timeout(LIMIT_S):
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            to = system.identities.device_id
            refs_down = [(await dsrsp.send(message, to=to))["ref"] for message in down]
            refs_up = [(await cem.send(message))["ref"] for message in up]

        tasks = [
            asyncio.create_task(readers[name].run(partial(system.control, name)))
            for name in ("cem", "dsrsp")
        ]
        try:
            for number, victim in enumerate(("dsrsp", "cem", "dcc-sim"), start=1):
                # Something has arrived, and more is on its way, in both directions.
                least = number * MESSAGES // 5
                await _until(changed, partial(_all_have, readers.values(), least))
                await system.kill(victim)
                await system.start(victim)
            ends_down, ends_up = await asyncio.gather(
                asyncio.gather(
                    *(_end_of(partial(system.control, "dsrsp"), ref) for ref in refs_down)
                ),
                asyncio.gather(*(_end_of(partial(system.control, "cem"), ref) for ref in refs_up)),
            )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for name in ("cem", "dsrsp", "dcc-sim"):
            assert await system.stop(name) == 0, name
        logs = "".join(system.log(name).read_text() for name in ("cem", "dsrsp", "dcc-sim"))
    failed = _check(ends_down, down, readers["cem"].contents)
    failed += _check(ends_up, up, readers["dsrsp"].contents)
    assert len(failed) <= MESSAGES // 4, json.dumps(failed, indent=1)
    assert "Traceback" not in logs
    for name in ("cem", "dsrsp"):
        assert _rows_of_messages(tmp_path / f"{name}.sqlite") == {}
