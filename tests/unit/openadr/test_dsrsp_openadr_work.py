"""The tasks of one CEM's VEN at the DSRSP, on virtual time: their pace and their faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from dsrsp.inbox import ReceivedMessage
from dsrsp.openadr import OpenAdrConfig, OpenAdrVens
from dsrsp.openadr.cem_ven import CemVen
from dsrsp.openadr.core.state import VenState
from dsrsp.openadr.core.ven import Ven
from dsrsp.openadr.vtn import VtnError
from dsrsp.ports import IncomingMessage
from gbcs import EntityId
from lab.virtual_time import run_virtual, virtual_clock
from openadr_xml import Payload, parse_untrusted_payload

Read = Callable[[bytes], Payload]
DEVICE = EntityId.parse("02-53-4D-54-00-00-00-01")


class Message:
    """A message of the CEM; tells when it is acknowledged."""

    def __init__(self, ref: str, message: bytes) -> None:
        self.ref = ref
        self.message = message
        self.acked = asyncio.Event()

    async def ack(self, answers: str | None = None) -> None:
        self.acked.set()


class Work:
    """A VEN at work before a VTN that says and raises what the test wants."""

    def __init__(self, read: Read, state: VenState, **config: Any) -> None:
        self.read = read
        self.asked: list[tuple[float, str]] = []
        self.say: Callable[[str], Payload | None] = lambda _: None
        self.sent: list[bytes] = []
        settings = OpenAdrConfig(vtn_url="http://127.0.0.1:9", **config)
        self.ven = Ven(
            settings, state, device="me", owner_of=lambda _: None, registrant_of=lambda _: None
        )
        self.cem = CemVen(
            DEVICE,
            self.ven,
            config=settings,
            vtn=self,  # type: ignore[arg-type]
            send=self.send,
            save=lambda *_: None,
            clock=virtual_clock,
            spread=lambda: 1.0,
        )
        self.begun = asyncio.get_running_loop().time()

    async def post(self, device: EntityId, service: str, octets: bytes) -> Payload | None:
        kind = self.read(octets).kind
        self.asked.append((asyncio.get_running_loop().time() - self.begun, kind))
        return self.say(kind)

    async def send(self, device: EntityId, octets: bytes) -> None:
        self.sent.append(octets)

    def take(self, ref: str, octets: bytes) -> Message:
        message = Message(ref, octets)
        self.cem.take(message, self.read(octets))  # type: ignore[arg-type]
        return message

    def polled_at(self) -> list[float]:
        return [at for at, kind in self.asked if kind == "oadrPoll"]


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(work())


@pytest.mark.parametrize(
    ("wished", "polled"), [("PT0.01S", 1.0), ("PT30S", 30.0), ("P9999D", 3600.0)]
)
def test_the_pace_that_the_vtn_wants_has_bounds(
    read: Read, xml: Any, caplog: pytest.LogCaptureFixture, wished: str, polled: float
) -> None:
    async def work() -> None:
        work = Work(read, VenState())
        # The schema admits no part of a second, some VTNs say it.
        answer = parse_untrusted_payload(xml.registered().replace(b"PT30S", wished.encode()))
        work.say = lambda kind: answer if kind == "oadrCreatePartyRegistration" else None
        work.cem.start()
        await work.take("1", xml.registration()).acked.wait()
        await asyncio.sleep(2.5 * polled)
        await work.cem.stop()
        assert work.polled_at() == pytest.approx([polled, 2 * polled])

    run(work)
    told = [record for record in caplog.records if "poll_interval_min_s" in record.message]
    assert len(told) == (0 if wished == "PT30S" else 1)


@pytest.mark.parametrize("failing", [False, True])
def test_a_new_registration_shortens_the_pause_that_runs(
    read: Read, xml: Any, failing: bool
) -> None:
    async def work() -> None:
        work = Work(read, VenState(ven_id="VEN1", poll_interval_s=3600.0))
        answer = read(xml.registered())

        def say(kind: str) -> Payload | None:
            if kind == "oadrCreatePartyRegistration":
                return answer
            if failing and len(work.polled_at()) == 1:
                raise VtnError("it is told to")
            return None

        work.say = say
        work.cem.start()
        await asyncio.sleep(3700.0)
        await work.take("1", xml.registration()).acked.wait()
        await asyncio.sleep(65.0)
        await work.cem.stop()
        assert work.polled_at() == pytest.approx([3600.0, 3730.0, 3760.0])

    run(work)


@pytest.mark.parametrize(("faults", "posts", "code"), [(2, 3, 200), (99, 4, 469)])
def test_work_goes_on_after_an_error_that_nobody_foresaw(
    read: Read, xml: Any, caplog: pytest.LogCaptureFixture, faults: int, posts: int, code: int
) -> None:
    async def work() -> None:
        work = Work(read, VenState(ven_id="VEN1"), poll_interval_s=1e6)
        answer = read(xml.event(answers="a"))

        def say(kind: str) -> Payload | None:
            if kind == "oadrRequestEvent" and len(work.asked) <= faults:
                raise KeyError("nobody foresaw it")
            return answer

        work.say = say
        work.cem.start()
        first = work.take("1", xml.request_event("a"))
        second = work.take("2", xml.canceled_report())
        await first.acked.wait()
        await second.acked.wait()
        await work.cem.stop()
        kinds = [kind for _, kind in work.asked]
        assert kinds == ["oadrRequestEvent"] * posts + ["oadrCanceledReport"], "in order"
        told = read(work.sent[0])
        assert (told.response_code, told.answered_request_id) == (code, "a")
        assert work.ven.state.done == []

    run(work)
    traces = [record for record in caplog.records if record.exc_info]
    assert len(traces) == min(faults, 4)
    assert "please report it" in traces[0].message


def test_polls_go_on_after_an_error_that_nobody_foresaw(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        work = Work(read, VenState(ven_id="VEN1", poll_interval_s=30.0))

        def say(kind: str) -> None:
            if len(work.asked) == 1:
                raise KeyError("nobody foresaw it")

        work.say = say
        work.cem.start()
        await asyncio.sleep(75.0)
        await work.cem.stop()
        assert work.polled_at() == pytest.approx([30.0, 70.0])

    run(work)
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_what_one_cem_sends_ends_the_work_for_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Gateway:
        async def received(self) -> AsyncIterator[ReceivedMessage]:
            for ref in ("breaks", "passes"):
                incoming = IncomingMessage(ref=ref, device=DEVICE, message=b"{}", received_at=0.0)
                yield ReceivedMessage(incoming, lambda *_: None)

    take = OpenAdrVens._take

    def faulty(vens: OpenAdrVens, received: ReceivedMessage) -> None:
        if received.ref == "breaks":
            raise RuntimeError("a fault of ours")
        take(vens, received)

    monkeypatch.setattr(OpenAdrVens, "_take", faulty)
    config = OpenAdrConfig(vtn_url="http://127.0.0.1:1", state=":memory:")
    async with OpenAdrVens(config, Gateway()) as vens:  # type: ignore[arg-type]
        others = vens.received()
        async with asyncio.timeout(10):
            assert (await anext(others)).ref == "passes"
    assert "message breaks cannot be taken" in caplog.text
