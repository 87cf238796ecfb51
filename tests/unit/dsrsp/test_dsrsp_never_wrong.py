"""Whatever the DCC, the signer and the disk do: no command leaves unsigned, uncorrelated or twice.

The oracle knows what the tunnel gave out (from the journal) and the supplier's certificate, and
looks at the octets at the very edge: what is posted to the DCC's service S.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsrsp import Gateway, Service
from dsrsp.adaptor import LiveRequest
from dsrsp.errors import (
    DccUnreachable,
    MessageNotSendable,
    ReceivedRefused,
    SignerUnavailable,
    SigningFailed,
    StorageError,
)
from dsrsp.store import SqliteStore
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import sign_response, verify_signature
from gbcs.duis import (
    DccAlertBody,
    QuarantinedRequest,
    build_response,
    parse_untrusted_request,
)
from gbcs.duis import Response as DuisResponse
from gbcs.messages import Label, PreCommand, SignedPreCommand, parse_untrusted


class Wrong(AssertionError):
    """The property does not hold. No AssertionError of a test's own machinery is of this kind."""


@dataclass(repr=False)
class Edge:
    """Looks at everything that is posted, and remembers it over restarts."""

    world: Any
    sends: dict[int, bytes] = field(default_factory=dict)
    transform_octets: dict[tuple[int, int], bytes] = field(default_factory=dict)
    process: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def asked(self, counter: int) -> dict[str, Any]:
        found = [e for e in self.world.journal.of("carrier") if e["originator_counter"] == counter]
        if len(found) != 1:
            raise Wrong(f"counter {counter} was given out {len(found)} times")
        return found[0]

    def look(self, service: Service, octets: bytes) -> Any:
        parsed = parse_untrusted_request(octets)
        keystore = self.world.dcc.keystore
        parsed.verify(keystore, role=Role.XML_SIGNING_USER, at=self.world.dcc._now())
        request = parsed.message
        asked = self.asked(request.originator_counter)
        if (str(request.target_id), request.originator_id) != (asked["peer"], self.world.supplier):
            raise Wrong("another originator or target")
        look = self._look_at_send if service is Service.SEND else self._look_at_transform
        look(request, octets, asked)
        return request

    def _look_at_transform(self, request: Any, octets: bytes, asked: dict[str, Any]) -> None:
        if "".join(label.text for label in request.body.labels) != asked["payload"]:
            raise Wrong("transform of something else")
        counter = request.originator_counter
        first = self.transform_octets.setdefault((self.process, counter), octets)
        if octets != first:
            raise Wrong("a repeated transform with other octets")

    def _look_at_send(self, request: Any, octets: bytes, asked: dict[str, Any]) -> None:
        message = parse_untrusted(request.body.gbcs_payload)
        if not isinstance(message, SignedPreCommand):
            raise Wrong(f"a {type(message).__name__} was sent")
        supplier = self.world.keystore.certificate(
            self.world.supplier, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER
        )
        pre = message.pre_command
        verify_signature(supplier.public_key, message.signature, pre.signed_part())
        texts = [asked["payload"][at : at + 22] for at in range(0, len(asked["payload"]), 22)]
        expected = PreCommand(
            self.world.supplier,
            request.target_id,
            asked["originator_counter"],
            tuple(Label(index, text) for index, text in enumerate(texts, 1)),
        )
        if pre != expected or pre.to_bytes() != expected.to_bytes():
            raise Wrong(f"not what was asked: {pre} instead of {expected}")
        if octets != self.sends.setdefault(request.originator_counter, octets):
            raise Wrong("other octets under the same counter")
        self.counts["sends"] += 1


@dataclass(repr=False)
class HostileDcc:
    """Answers as a random generator says: honestly, not at all, or with what must not be believed.

    ``honest`` ends all that.
    """

    world: Any
    edge: Edge
    chance: random.Random
    honest: bool = False
    wrong: list[BaseException] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)

    async def post(self, service: Service, octets: bytes) -> bytes:
        await asyncio.sleep(0.01 if self.honest else self.chance.choice([0.0, 0.01, 0.3, 2.0]))
        try:
            request = self.edge.look(service, octets)
        except Exception as error:
            self.wrong.append(error)
            raise DccUnreachable("the property does not hold") from None
        dcc = self.world.dcc
        made = dcc.transform(request) if service is Service.TRANSFORM else dcc.accept(request)
        if self.honest:
            return made
        kind = self.chance.choice(
            ["good"] * 4 + ["lost", "garbage", "refusal", "other", "wrong", "wrong", "news"]
        )
        self.edge.counts[f"{service.name} {kind}"] += 1
        if kind == "lost":
            raise DccUnreachable("the answer is lost")
        answer = getattr(self, f"_{kind}")(service, request, made)
        self.seen.append(answer)
        return answer

    def _good(self, service: Service, request: Any, made: bytes) -> bytes:
        return made

    def _garbage(self, service: Service, request: Any, made: bytes) -> bytes:
        return mutated(self.chance, made)

    def _refusal(self, service: Service, request: Any, made: bytes) -> bytes:
        code = self.chance.choice(["E100", "E20", "E2", "E40", "E47", "E58"])
        signed = self.chance.random() < 0.5
        return self.world.dcc.refusal(request.request_id, code, signed=signed)

    def _other(self, service: Service, request: Any, made: bytes) -> bytes:
        """Answer as another request was, or with the answer of the other service."""
        some = [*self.seen, self.world.dcc.acknowledgement(request.request_id)]
        return self.chance.choice(some)

    def _wrong(self, service: Service, request: Any, made: bytes) -> bytes:
        """Make the DCC, with its true signature, say something else than was asked."""
        if service is Service.SEND:
            return self._other(service, request, made)
        pre = self.world.dcc.pre_command(request)
        good = pre.to_bytes()
        counter, labels = pre.originator_counter, pre.labels
        payload = self.chance.choice(
            [
                lambda: mutated(self.chance, good),
                lambda: good + b"\0",
                lambda: good[: self.chance.randrange(len(good))],
                lambda: replace(pre, originator_counter=counter + 1).to_bytes(),
                lambda: replace(pre, originator_counter=max(1, counter - 1)).to_bytes(),
                lambda: replace(pre, target_id=self.world.other_device).to_bytes(),
                lambda: replace(pre, originator_id=self.world.load_controller).to_bytes(),
                lambda: replace(
                    pre, labels=(*labels[:-1], Label(labels[-1].index, "zz"))
                ).to_bytes(),
                lambda: SignedPreCommand(pre, bytes(64)).to_bytes(),
                lambda: sign_response(
                    self.world.dcc.response(pre, (0,)), self.world.pki.devices[pre.target_id]
                ).to_bytes(),
            ]
        )()
        if payload == good:
            self.edge.counts["TRANSFORM wrong"] -= 1
        signer = self.chance.choice([None, None, None, self.world.pki.foreign_xml])
        return self.world.dcc.pre_command_answer(request, payload, signer)

    def _news(self, service: Service, request: Any, made: bytes) -> bytes:
        """Post something to the receive address, in the middle of all."""
        dcc, counter = self.world.dcc, request.originator_counter
        pre = PreCommand(request.originator_id, request.target_id, counter, (Label(1, "A"),))
        forged = self.world.pki.devices[self.world.other_device]
        held = QuarantinedRequest(request.request_id, "ADUserThresholdBreach", 12)
        news = self.chance.choice(
            [
                lambda: dcc.service_response(pre, (self.chance.choice([0, 1, 2, 3, 250]),)),
                lambda: dcc.service_response(pre, (0,), device_signer=forged),
                lambda: dcc.service_response(pre, (0,), unsigned=True),
                lambda: dcc.refusal(request.request_id, "E20"),
                lambda: dcc.refusal(request.request_id, "E5", signed=True),
                lambda: build_response(
                    DuisResponse("I0", dcc._now(), DccAlertBody("AD1", held)),
                    self.world.pki.dcc_xml,
                ),
            ]
        )()
        self.post_up(news)
        return made

    def post_up(self, octets: bytes) -> None:
        with contextlib.suppress(ReceivedRefused, StorageError):
            self.world.receive_now(octets)


def mutated(chance: random.Random, octets: bytes) -> bytes:
    changed = bytearray(octets)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        at = chance.randrange(len(changed))
        what = chance.randrange(3)
        if what == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            del changed[at]
        else:
            changed.insert(at, chance.randrange(256))
    return bytes(changed)


class HostileSigner:
    """Signs well, late, wrongly, not at all; knows what it has signed."""

    def __init__(self, world: Any, dcc: HostileDcc) -> None:
        self.world, self.dcc = world, dcc
        self.signed: Counter[int] = Counter()

    async def sign(self, pre_command: PreCommand) -> bytes:
        chance, supplier = self.dcc.chance, self.world.pki.supplier
        if not self.dcc.honest:
            await asyncio.sleep(chance.choice([0.0, 0.0, 0.1, 5.0]))
            kind = chance.choice(["good"] * 6 + ["away", "away", "wrong", "other"])
            self.dcc.edge.counts[f"signer {kind}"] += 1
            if kind == "away":
                raise SignerUnavailable("away")
            if kind == "wrong":
                return bytes(64)
            if kind == "other":
                return supplier.sign(b"something else")
        self.signed[pre_command.originator_counter] += 1
        if self.signed[pre_command.originator_counter] > 1:
            self.dcc.wrong.append(Wrong("two signatures under one counter"))
        if pre_command.to_bytes()[:1] != b"\xdf":
            raise SigningFailed("no pre-command")
        return supplier.sign(pre_command.signed_part())


class FlakyStore(SqliteStore):
    """A disk that is full now and then."""

    dcc: HostileDcc

    def keep(self, changes: Any, *, now: float) -> None:
        if not self.dcc.honest and self.dcc.chance.random() < 0.05:
            self.dcc.edge.counts["disk full"] += 1
            raise StorageError("the disk is full")
        super().keep(changes, now=now)


def run(world: Any, chance: random.Random) -> tuple[Edge, list[BaseException]]:
    """Send a few messages through trouble and restarts, then let all of them end well or not."""

    async def main() -> tuple[Edge, list[BaseException]]:
        edge = Edge(world)
        dcc = HostileDcc(world, edge, chance)
        refs: list[str] = []
        for last in [False] * chance.randrange(1, 4) + [True]:
            edge.process += 1
            dcc.honest = last
            store = FlakyStore(world.state, supplier_id=world.supplier)
            store.dcc = dcc
            # These processes end in order: what is not on the disk then is not lost.
            store._file.db.execute("PRAGMA synchronous=OFF")
            gateway = Gateway(
                world.config(
                    response_timeout_s=60.0,
                    transform_timeout_s=60.0,
                    resume_grace_s=10.0,
                    fragment_attempts=3,
                    fragment_retry_first_s=5.0,
                ),
                world.keystore,
                clock=world.dcc.clock,
                random_octets=world.random,
                journal=world.journal,
                dcc=dcc,
                signer=HostileSigner(world, dcc),
                storage=store,
            )
            world.receive_now = gateway.receive_untrusted
            world.dcc.receive = dcc.post_up
            try:
                await gateway.__aenter__()
            except StorageError:
                continue
            try:
                if not last:
                    await trouble(world, gateway, chance, refs)
                for ref in refs if last else []:
                    status = await gateway.handle(ref).wait()
                    edge.counts[status.state.value] += 1
            finally:
                await gateway.__aexit__(None, None, None)
        return edge, dcc.wrong

    with TemporaryDirectory() as folder:
        world.state = str(Path(folder) / "state.sqlite")
        world.journal.events.clear()
        world._drawn = chance.randrange(2**32)
        world.dcc.posted.clear()
        world.dcc.signed.clear()
        result: tuple[Edge, list[BaseException]] = world.run(main)
        return result


async def trouble(world: Any, gateway: Gateway, chance: random.Random, refs: list[str]) -> None:
    for _ in range(chance.randrange(1, 3)):
        wishes: dict[str, Any] = {"topic": chance.choice([None, "one event"])}
        if chance.random() < 0.3:
            wishes["deadline"] = world.dcc.clock() + chance.choice([1.0, 30.0])
        to = chance.choice([world.device, world.other_device])
        try:
            refs.append(
                (await gateway.send(to, chance.randbytes(chance.choice([5, 200])), **wishes)).ref
            )
        except (StorageError, MessageNotSendable):
            continue
        await asyncio.sleep(chance.choice([0.0, 0.5, 20.0]))
    await asyncio.sleep(chance.choice([0.0, 0.02, 1.0, 30.0, 200.0]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 2**64))
def test_no_command_leaves_that_is_not_signed_correlated_and_once(world, seed):
    _, wrong = run(world, random.Random(seed))
    assert wrong == []


def test_the_troubles_happen_and_commands_go_all_the_same(world):
    """What the property says is not said of nothing."""
    counts: Counter[str] = Counter()
    for seed in range(25):
        edge, wrong = run(world, random.Random(seed))
        assert wrong == []
        counts += edge.counts
    seldom = [what for what, count in counts.items() if count < 3]
    assert counts["sends"] > 100
    assert counts["reassembled"] > 10
    assert counts["TRANSFORM wrong"] > 20
    assert seldom == []


def lax_correlation(asked: PreCommand, received: bytes) -> PreCommand:
    message = parse_untrusted(received)
    if not isinstance(message, PreCommand):
        raise SigningFailed("no pre-command")
    return message


async def lax_signature(self: Any, pre_command: PreCommand) -> bytes:
    return await self._signer.sign(pre_command)


def forgetful(request: Any, *, resumed: bool = False, **_: Any) -> LiveRequest:
    return LiveRequest(request, resumed=resumed)


BROKEN = {
    "correlation": ("dsrsp.adaptor.correlate", lax_correlation, "not what was asked"),
    "signature": ("dsrsp.signing.CheckedSigner.sign", lax_signature, "signature"),
    "memory": ("dsrsp.requests.LiveRequest", forgetful, "two signatures|with other octets"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_the_property_sees_an_adaptor_that_is_broken(world, monkeypatch, broken):
    where, what, said = BROKEN[broken]
    monkeypatch.setattr(where, what)
    found = (wrong for seed in range(50) for wrong in run(world, random.Random(seed))[1])
    assert re.search(said, str(next(found, "nothing")))
