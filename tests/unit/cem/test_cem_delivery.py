"""The gateway and a DSRSP over a network that loses, in virtual time: hours pass in no time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import zlib
from base64 import b64encode
from collections import Counter

import pytest

from cem import StoreError
from cem.store import SqliteStore
from lab.virtual_time import run_virtual
from openadr_xml import canonical
from smtunnel import (
    Compression,
    DeliveryState,
    FragmentHeader,
    Limits,
    Originator,
    parse_untrusted_header,
)
from smtunnel.effects import Effects
from smtunnel.errors import LocalError
from smtunnel.records import AbortCode, Capabilities, EchoReply, ReceiptPolicy

NOW = 1_700_000_000.0
HOUR_S = 3600.0
UP = random.Random(2).randbytes(3000)  # does not shrink: four fragments
DOWN = random.Random(1).randbytes(700)  # does not shrink: nine fragments
XML = b"""<?xml version="1.0"?>
<oadr:oadrPayload xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07">
   <oadr:oadrSignedObject>
      <oadr:oadrPoll oadr:schemaVersion="2.0b"/>
   </oadr:oadrSignedObject>
</oadr:oadrPayload>
"""


def virtual_clock() -> float:
    return NOW + asyncio.get_running_loop().time()


class LastingStore(SqliteStore):
    """Lives on in memory when the gateway that used it is gone; its disk may fail."""

    fails = staticmethod(lambda: False)

    def commit(self, changes) -> None:
        if self.fails():
            raise StoreError("the disk is full")
        super().commit(changes)

    def close(self) -> None:
        pass


class Recorder:
    def __init__(self) -> None:
        self.events = []

    def record(self, event, /, **fields) -> None:
        self.events.append((event, fields))


class Setting:
    """A gateway, a hub and a DSRSP."""

    def __init__(self, world, new_dsrsp, memory_hub, **options) -> None:
        self.world = world
        delay_s = options.pop("delay_s", 20.0)
        self.dsrsp = new_dsrsp(clock=virtual_clock, **options)
        self.hub = memory_hub(self.dsrsp, delay_s=delay_s)
        self.store = LastingStore(":memory:", world.device_id, replay_window=1024)
        self.journal = Recorder()
        self.random = random.Random(5)

    def gateway(self, **changes):
        return self.world.gateway(
            self.world.config(reconnect_min_s=1.0, reconnect_max_s=60.0, **changes),
            clock=virtual_clock,
            random_octets=self.random.randbytes,
            journal=self.journal,
            store=self.store,
            connector=self.hub,
        )

    def data_alerts(self):
        """Index of the fragment of each alert with data, and when it was sent."""
        found = []
        for at, octets in self.hub.sent:
            header = parse_untrusted_header(self.world.alert(octets).text[:4])
            if header.compression is not Compression.CONTROL:
                found.append((at, header.index))
        return found


@pytest.fixture
def new_setting(world, new_dsrsp, memory_hub):
    def new(**options) -> Setting:
        return Setting(world, new_dsrsp, memory_hub, **options)

    return new


@contextlib.asynccontextmanager
async def passing_time(setting):
    task = asyncio.create_task(setting.hub.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def is_data(alert) -> bool:
    header = parse_untrusted_header(alert.text[:4])
    return header.compression is not Compression.CONTROL


def test_repeated_until_the_receipt(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        lost = itertools.count()
        setting.hub.lose_alert = lambda alert: is_data(alert) and next(lost) < 3
        async with passing_time(setting), setting.gateway() as gateway:
            handle = await gateway.send(b"important")
            states = [status.state async for status in handle.statuses()]
            assert states[-1] is DeliveryState.REASSEMBLED
            assert DeliveryState.SENT in states  # which was not the end
        assert setting.dsrsp.received == [b"important"]
        times = [at for at, _ in setting.data_alerts()]
        assert len(times) == 4
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert waits == pytest.approx([300, 600, 1200], abs=1)
        carriers = [fields for event, fields in setting.journal.events if event == "carrier"]
        assert [f["attempt"] for f in carriers if not f["control"]] == [1, 2, 3, 4]
        assert [f["attempt"] for f in carriers if f["control"]] == [1]  # our capabilities

    run_virtual(main())


def test_receipts_that_get_lost(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        first = set()
        setting.hub.lose_command = lambda counter: len(first) < 4 and not first.add(counter)
        async with passing_time(setting), setting.gateway() as gateway:
            status = await (await gateway.send(UP)).wait()
            assert status.state is DeliveryState.REASSEMBLED
        assert setting.dsrsp.received == [UP]

    run_virtual(main())


def test_no_receipt_ever(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        setting.hub.lose_alert = lambda alert: True
        async with passing_time(setting), setting.gateway(fragment_attempts=3) as gateway:
            status = await (await gateway.send(b"x")).wait()
            assert status.state is DeliveryState.FAILED
            assert "3 times" in status.reason
            await asyncio.sleep(24 * HOUR_S)  # our capabilities are given up as well
            assert setting.store.alert_counters() == set()
            assert len(setting.hub.sent) == 3 + 4

    run_virtual(main())


def test_only_what_is_missing_is_sent_again(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        lost = set()

        def lose(alert) -> bool:
            index = parse_untrusted_header(alert.text[:4]).index
            return is_data(alert) and index in (1, 2) and not (index in lost or lost.add(index))

        setting.hub.lose_alert = lose
        async with passing_time(setting), setting.gateway() as gateway:
            status = await (await gateway.send(UP)).wait()
            assert status.state is DeliveryState.REASSEMBLED
        assert setting.dsrsp.received == [UP]
        sent = Counter(index for _, index in setting.data_alerts())
        assert sent == {0: 1, 1: 2, 2: 2, 3: 1}

    run_virtual(main())


def test_abort_ends_with_its_reason(new_setting) -> None:
    async def main() -> None:
        setting = new_setting(limits=Limits(message_octets=1000))
        async with passing_time(setting), setting.gateway() as gateway:
            status = await (await gateway.send(UP)).wait()
            assert status.state is DeliveryState.FAILED
            assert AbortCode.TOO_LONG.name.lower().replace("_", " ") in status.reason
            assert "1000" in status.reason
            # By now it is known what the DSRSP takes.
            with pytest.raises(LocalError, match="1000"):
                await gateway.send(UP)
            ended = await (await gateway.send(b"small enough")).wait()
            assert ended.state is DeliveryState.REASSEMBLED
        assert setting.dsrsp.received == [b"small enough"]

    run_virtual(main())


def test_one_command_acknowledges_many(new_setting) -> None:
    async def main() -> None:
        setting = new_setting(receipts=ReceiptPolicy.BATCHED)
        async with passing_time(setting), setting.gateway() as gateway:
            await asyncio.sleep(200)  # capabilities are told
            before = gateway.counts["CONTROL"]
            messages = [b"message %d" % number for number in range(10)]
            handles = [await gateway.send(message) for message in messages]
            for handle in handles:
                assert (await handle.wait()).state is DeliveryState.REASSEMBLED
            assert gateway.counts["CONTROL"] - before == 1
        assert setting.dsrsp.received == messages

    run_virtual(main())


def test_receipts_off(new_setting) -> None:
    async def main() -> None:
        setting = new_setting(receipts=ReceiptPolicy.OFF)
        async with passing_time(setting), setting.gateway() as gateway:
            early = await gateway.send(b"before that is known")
            assert early.status.receipt_expected
            assert (await early.wait()).state is DeliveryState.SENT
            late = await gateway.send(UP)
            assert not late.status.receipt_expected
            assert (await late.wait()).state is DeliveryState.SENT
            await asyncio.sleep(10 * HOUR_S)
        assert setting.dsrsp.received == [b"before that is known", UP]
        assert len(setting.data_alerts()) == 5  # nothing was repeated

    run_virtual(main())


def test_paced(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        messages = [b"message %d" % number for number in range(100)]
        async with passing_time(setting), setting.gateway() as gateway:
            handles = [await gateway.send(message) for message in messages]
            for handle in handles:
                assert (await handle.wait()).state is DeliveryState.REASSEMBLED
        assert setting.dsrsp.received == messages
        times = [at for at, _ in setting.hub.sent]
        most = max(sum(start <= at < start + 60 for at in times) for start in times)
        assert most <= 16
        assert times[-1] - times[0] < 100 / 16 * 60 * 1.5

    run_virtual(main())


def test_pace_is_kept_over_a_restart_and_another_window(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        async with passing_time(setting):
            async with setting.gateway() as gateway:
                for number in range(30):
                    await gateway.send(b"%d" % number)
                await asyncio.sleep(1)
                assert len(setting.hub.sent) == 16
            async with setting.gateway():
                await asyncio.sleep(30)
                assert len(setting.hub.sent) == 16
            # Counted in another window it means nothing, and must not hold anything up.
            async with setting.gateway(alert_window_s=7200.0):
                await asyncio.sleep(HOUR_S)
            assert len(set(setting.dsrsp.received)) >= 16

    run_virtual(main())


def test_capabilities_are_exchanged_once(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        async with passing_time(setting):
            for _ in range(3):
                async with setting.gateway():
                    await asyncio.sleep(2 * HOUR_S)
        assert [type(record) for record in setting.dsrsp.news] == [Capabilities]
        assert len(setting.hub.sent) <= 3  # ours, and receipts of theirs at most

    run_virtual(main())


def test_capabilities_are_told_again_until_they_are_known(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        lost = itertools.count()
        setting.hub.lose_alert = lambda alert: next(lost) < 2
        async with passing_time(setting), setting.gateway():
            await asyncio.sleep(4 * HOUR_S)
        assert [type(record) for record in setting.dsrsp.news] == [Capabilities]

    run_virtual(main())


def last_alert(setting) -> str:
    alerts = [setting.world.alert(octets) for _, octets in setting.hub.sent]
    return [alert.text for alert in alerts if is_data(alert)][-1]


def test_dictionary_only_when_it_is_known_to_be_understood(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        async with passing_time(setting), setting.gateway() as gateway:
            with pytest.raises(LocalError, match="dictionary"):
                await gateway.send(XML, "dictionary")
            await (await gateway.send(XML)).wait()
            early = last_alert(setting)
            await asyncio.sleep(HOUR_S)
            await (await gateway.send(XML, "dictionary")).wait()
            by_name = last_alert(setting)
            await (await gateway.send(XML)).wait()
            assert len(last_alert(setting)) == len(by_name) < len(early) / 2
        assert len(setting.dsrsp.received) == 3

    run_virtual(main())


def test_echo_is_answered(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        async with passing_time(setting), setting.gateway():
            await asyncio.sleep(HOUR_S)
            dsrsp = setting.dsrsp
            dsrsp.act(dsrsp.endpoint.echo(dsrsp.cem, b"12345678", virtual_clock(), opaque=b"o"))
            await asyncio.sleep(60)
        assert setting.dsrsp.news[-1] == EchoReply(b"12345678", b"o")

    run_virtual(main())


def test_unknown_control_records_are_counted(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        async with passing_time(setting), setting.gateway() as gateway:
            await asyncio.sleep(HOUR_S)
            record = bytes([200, 3]) + b"abc"
            octets = record + zlib.crc32(record).to_bytes(4, "big")
            header = FragmentHeader(Originator.DSRSP, Compression.CONTROL, True, True, 0, 99)
            payload = header.encode() + b64encode(octets).decode("ascii")
            setting.hub.deliver(setting.world.command(20_000, payload))
            await asyncio.sleep(1)
            assert gateway.counts["UNKNOWN_RECORD"] == 1
            assert gateway.counts["CONTROL"] >= 1

    run_virtual(main())


def test_link_is_down_for_hours(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        async with passing_time(setting), setting.gateway() as gateway:
            await asyncio.sleep(HOUR_S)
            setting.hub.drop()
            messages = [b"message %d" % number for number in range(40)]
            handles = [await gateway.send(message) for message in messages]
            await asyncio.sleep(20 * HOUR_S)
            assert {handle.status.state for handle in handles} == {DeliveryState.QUEUED}
            assert len(setting.store.alert_counters()) <= 16  # not all are signed ahead
            setting.hub.up = True
            for handle in handles:
                assert (await handle.wait()).state is DeliveryState.REASSEMBLED
        assert setting.dsrsp.received == messages

    run_virtual(main())


def test_link_is_down_for_longer_than_a_message_lives(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        setting.hub.up = False
        async with passing_time(setting), setting.gateway() as gateway:
            handles = [await gateway.send(b"%d" % number) for number in range(30)]
            await asyncio.sleep(80 * HOUR_S)
            for handle in handles:
                assert handle.status.state is DeliveryState.FAILED
                assert "lifetime" in handle.status.reason
            assert setting.store.count_outgoing() == 0
            # Nothing of what has ended goes out, and the tunnel works.
            setting.hub.up = True
            last = await gateway.send(b"last")
            assert (await last.wait()).state is DeliveryState.REASSEMBLED
        assert setting.dsrsp.received == [b"last"]

    run_virtual(main())


def test_answer_ends_what_waits_for_a_receipt(new_setting) -> None:
    async def main() -> None:
        setting = new_setting(receipts=ReceiptPolicy.BATCHED, batch_s=30_000.0)
        async with passing_time(setting), setting.gateway() as gateway:
            handle = await gateway.send(UP)
            await asyncio.sleep(60)
            assert handle.status.state is DeliveryState.SENT
            setting.hub.send_down(DOWN)
            received = await anext(gateway.received())
            assert received.message == DOWN
            await received.ack(answers=handle.ref)
            assert (await handle.wait()).state is DeliveryState.ANSWERED
            await asyncio.sleep(10 * HOUR_S)
        assert len(setting.data_alerts()) == 4
        assert [s.state for s in setting.dsrsp.statuses][-1] is DeliveryState.REASSEMBLED

    run_virtual(main())


def test_answer_to_what_never_went_out(new_setting) -> None:
    async def main() -> None:
        setting = new_setting()
        setting.hub.up = False
        async with passing_time(setting), setting.gateway(messages_in_flight=1) as gateway:
            blocking = await gateway.send(b"before")
            waiting = await gateway.send(b"answered before it went out")
            await gateway._acknowledge("none", waiting.ref)
            assert waiting.status.state is DeliveryState.ANSWERED
            setting.hub.up = True
            assert (await blocking.wait()).state is DeliveryState.REASSEMBLED
            await asyncio.sleep(HOUR_S)
        assert setting.dsrsp.received == [b"before"]

    run_virtual(main())


def test_compact_form(new_setting) -> None:
    signed = XML.replace(
        b"<oadr:oadrSignedObject>",
        b'<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/><oadr:oadrSignedObject>',
    )
    report = b'{"json": [1,  2]}'

    async def main() -> None:
        setting = new_setting()
        async with passing_time(setting), setting.gateway() as gateway:
            for message, choice in (
                (XML, None),
                (XML, False),
                (signed, None),
                (report, True),
            ):
                await (await gateway.send(message, compact=choice)).wait()
        async with passing_time(setting), setting.gateway(compact=False) as gateway:
            await (await gateway.send(XML)).wait()
            await (await gateway.send(XML, compact=True)).wait()
        first, *others, last = setting.dsrsp.received
        assert first == last
        assert len(first) < len(XML)
        assert canonical(first) == canonical(XML)
        assert others == [XML, signed, report, XML]

    run_virtual(main())


@pytest.mark.parametrize("seed", range(12))
def test_losses_restarts_and_full_disks(new_setting, seed) -> None:
    """Everything at once: each message arrives exactly once, in both directions."""
    chance = random.Random(seed)

    async def main() -> None:
        setting = new_setting(receipts=ReceiptPolicy.BATCHED)
        calm = False
        setting.hub.lose_alert = lambda alert: not calm and chance.random() < 0.3
        setting.hub.lose_command = lambda counter: not calm and chance.random() < 0.3
        setting.store.fails = lambda: not calm and chance.random() < 0.1
        up = [chance.randbytes(chance.choice([10, 900, 4000])) for _ in range(12)]
        down = [chance.randbytes(chance.choice([10, 300])) for _ in range(6)]
        refs, got = {}, []

        async def receive(gateway) -> None:
            async for received in gateway.received():
                with contextlib.suppress(StoreError):
                    await received.ack()
                    got.append(received.message)

        async def send(gateway) -> None:
            for message in up:
                while message not in refs:
                    await asyncio.sleep(chance.random() * 200)
                    with contextlib.suppress(StoreError):
                        refs[message] = (await gateway.send(message)).ref

        async with passing_time(setting):
            for number, message in enumerate(down):
                setting.hub.send_down(message, f"down{number}")
            for _ in range(25):
                setting.hub.up = True
                try:
                    async with setting.gateway(fragment_attempts=255) as gateway:
                        tasks = [
                            asyncio.create_task(receive(gateway)),
                            asyncio.create_task(send(gateway)),
                        ]
                        await asyncio.sleep(chance.random() * 400)
                        if chance.random() < 0.3:
                            setting.hub.drop()
                            await asyncio.sleep(chance.random() * 400)
                        for task in tasks:
                            task.cancel()
                        await asyncio.gather(*tasks, return_exceptions=True)
                except StoreError:
                    pass  # it could not even be opened
                setting.hub.drop()
            calm = setting.hub.up = True
            async with setting.gateway(fragment_attempts=255) as gateway:
                tasks = [
                    asyncio.create_task(receive(gateway)),
                    asyncio.create_task(send(gateway)),
                ]
                await tasks[1]
                for message in up:
                    status = await gateway.handle(refs[message]).wait()
                    assert status.state is DeliveryState.REASSEMBLED
                await asyncio.sleep(24 * HOUR_S)
                tasks[0].cancel()
        assert sorted(setting.dsrsp.received) == sorted(up)
        assert sorted(got) == sorted(down)
        counters = [
            setting.world.alert(octets).originator_counter for _, octets in setting.hub.sent
        ]
        assert len({octets for _, octets in setting.hub.sent}) == len(set(counters))

    run_virtual(main())


def test_what_is_held_is_told_before_an_end_that_is_made_anew(world, monkeypatch) -> None:
    store, told = world.store(), []
    tunnel = world.tunnel(store, told=lambda effects: told.append(sorted(effects.saves)))
    tunnel.start(NOW)
    told.clear()
    monkeypatch.setattr(store, "tunnel_rows", dict)

    def fail(endpoint):
        raise StoreError("the disk is full")

    tunnel.work(lambda endpoint: Effects(saves={"held": b""}), NOW, hold=True)
    with pytest.raises(StoreError):
        tunnel.work(fail, NOW)
    tunnel.work(lambda endpoint: Effects(saves={"later": b""}), NOW)
    assert told == [["held"], ["cem/window"], ["later"]]
    store.close()
