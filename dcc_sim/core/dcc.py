"""The DCC as one object: what comes in are calls, what goes out are effects."""

from __future__ import annotations

from dataclasses import replace

from dcc_sim.config import DccSimConfig, check_behaviour
from dcc_sim.core.command_desk import CommandDesk
from dcc_sim.core.effects import Effect, Note, Reply, Severity
from dcc_sim.core.fault_desk import FaultDesk
from dcc_sim.core.faults import Fault, Faults, Hit, Hop
from dcc_sim.core.keys import Keys
from dcc_sim.core.messages import DuisWriter
from dcc_sim.core.network.transport import DccTime
from dcc_sim.core.outbox import Outbox
from dcc_sim.core.quarantine import Quarantine, QuarantinedCommand
from dcc_sim.core.request_desk import RequestDesk
from dcc_sim.core.services import Service
from dcc_sim.core.sm_wan import SmWan, Surroundings
from dcc_sim.core.smki_repository import SmkiRepository
from dcc_sim.core.state import ResponseBehaviour, State, normal_issuer
from dcc_sim.errors import CertificateUnknown, DeviceMessageRefused
from dcc_sim.ports import CertificateName, Storage
from gbcs.device_link import Challenge, parse_untrusted_proof, verify_proof
from gbcs.duis import Schema
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError, FormatError, SignatureInvalid
from gbcs.ports import Journal

_DCC_TIME: dict[Service, DccTime] = {
    Service.TRANSFORM: "transform",
    Service.SEND_COMMAND: "send_command",
    Service.NON_DEVICE: "non_device",
}


class Dcc:
    """Service gateway, access control broker and SM WAN, without I/O.

    After each call the caller commits the storage and then carries out `take_effects`; only then
    it sends the reply. So nothing is said that a crash could unsay. `get_timer` tells when to
    call `handle_timer`. Times are seconds since 1970.

    Args:
        config: the simulator's settings.
        keys: the DCC's keys and everybody's certificates.
        storage: the durable state; what it holds is taken up.
        schema: validates all that comes and goes if given.
        journal: gets every message.
        surroundings: the network between DCC and devices, and what is to go wrong.
        now: the time.

    Raises:
        StoreError: the state cannot be read.
        ConfigError: the inventory does not fit the network.
    """

    def __init__(
        self,
        config: DccSimConfig,
        keys: Keys,
        storage: Storage,
        *,
        schema: Schema | None,
        journal: Journal,
        surroundings: Surroundings,
        now: float,
    ) -> None:
        self._keys = keys
        self._state = State(config, storage, journal)
        writer = DuisWriter(self._state, keys.xml_signer, schema)
        self._outbox = Outbox(self._state, now)
        self._sm_wan = SmWan(self._state, surroundings, now)
        self._network = self._sm_wan.network
        self._surroundings = surroundings
        self._faults = FaultDesk(self._state, keys, surroundings.faults, self._network, now)
        self._commands = CommandDesk(
            self._state, keys, writer, self._outbox, self._network, surroundings.profile, now
        )
        self._quarantine = Quarantine(self._state, writer, self._outbox, self._commands)
        self._requests = RequestDesk(
            self._state, keys, writer, self._commands, self._quarantine, schema
        )
        self._repository = SmkiRepository(self._state, keys)
        keys.use_revocations(self._state.revoked)
        self._sm_wan.resume(now)
        self._sm_wan.settle(self._commands, now)

    def receive_untrusted_request(self, service: Service, octets: bytes, now: float) -> Reply:
        """Answer one DUIS request that came to one of the services."""
        reply = self._requests.receive_untrusted_request(service, octets, now)
        self._sm_wan.settle(self._commands, now)
        return replace(reply, delay_s=self._network.dcc_time_s(_DCC_TIME[service]))

    def search_untrusted(self, octets: bytes, now: float) -> bytes:
        """Answer a search in the SMKI repository.

        Raises:
            gbcs.errors.SmkiRepositoryFormatError: it is none.
        """
        return self._repository.search_untrusted(octets, now)

    def retrieve_untrusted(self, octets: bytes) -> bytes:
        """Give out a certificate of the SMKI repository.

        Raises:
            gbcs.errors.SmkiRepositoryFormatError: it is none.
        """
        return self._repository.retrieve_untrusted(octets)

    def quarantined(self) -> list[QuarantinedCommand]:
        """Return what anomaly detection holds back, the oldest first."""
        return self._quarantine.held()

    def release(self, event_reference: int, now: float) -> None:
        """Let a command out of quarantine go on its way.

        Raises:
            NotInQuarantine: there is none of this reference.
        """
        self._quarantine.release(event_reference, now)
        self._sm_wan.settle(self._commands, now)

    def discard(self, event_reference: int, now: float) -> None:
        """Give up a command in quarantine and tell its user.

        Raises:
            NotInQuarantine: there is none of this reference.
        """
        self._quarantine.discard(event_reference, now)

    def revoked(self) -> list[CertificateName]:
        """Return the revoked certificates."""
        return sorted(self._state.revoked)

    def revoke(self, issuer_name: str, serial: int) -> None:
        """Trust a certificate no more, for good.

        Raises:
            CertificateUnknown: there is none of this issuer and serial number.
        """
        if self._keys.keystore.by_issuer_and_serial(issuer_name, serial) is None:
            raise CertificateUnknown(
                f"no certificate of issuer {issuer_name!r} has the serial number {serial}"
            )
        self._state.revoke((normal_issuer(issuer_name), serial))
        self._state.note(Severity.WARNING, f"revoked certificate {serial} of {issuer_name!r}")

    def behaviour(self) -> ResponseBehaviour:
        """Return how responses and alerts are posted."""
        return self._state.behaviour

    def change_behaviour(self, behaviour: ResponseBehaviour) -> None:
        """Post responses and alerts in another way from now on.

        Raises:
            ConfigError: so many copies, or so long a delay, are not allowed.
        """
        check_behaviour(behaviour.copies, behaviour.delay_s)
        self._state.change_behaviour(behaviour)
        self._state.note(
            Severity.INFO,
            f"responses come {behaviour.copies} times, {behaviour.delay_s:g} s late",
        )

    def check_untrusted_proof(
        self, device: EntityId, challenge: Challenge, text: str, now: float
    ) -> None:
        """Check that a connecting device has the key of the EUI-64 it claims.

        Raises:
            DeviceMessageRefused: it does not, or is not in the inventory.
        """
        if device not in self._state.devices:
            raise DeviceMessageRefused(f"{device} is not in the inventory of devices")
        try:
            proof = parse_untrusted_proof(text)
            verify_proof(proof, challenge, device, self._keys.device_signature_key(device, now))
        except (FormatError, SignatureInvalid, CertificateError) as error:
            raise DeviceMessageRefused(str(error)) from None

    def handle_connected(self, device: EntityId, now: float) -> None:
        """A device proved its key and can be sent to."""
        self._state.note(Severity.INFO, f"device {device} connected")
        self._commands.handle_connected(device, now)

    def handle_disconnected(self, device: EntityId) -> None:
        """A device can no longer be sent to."""
        self._state.note(Severity.INFO, f"device {device} disconnected")
        self._commands.handle_disconnected(device)

    def receive_untrusted_message(self, device: EntityId, octets: bytes, now: float) -> None:
        """Take a GBCS message from a connected device."""
        self._sm_wan.receive_untrusted_message(device, octets, now)
        self._sm_wan.settle(self._commands, now)

    def handle_posted(self, posting_id: int) -> None:
        """A user took what a Post effect carried (HTTP status 2xx)."""
        self._outbox.handle_posted(posting_id)

    def handle_post_failed(
        self, posting_id: int, reason: str, now: float, *, reached: bool
    ) -> None:
        """A Post effect came to nothing; reached says whether the user answered at all."""
        self._outbox.handle_post_failed(posting_id, reason, now, reached=reached)

    @property
    def faults(self) -> Faults:
        """The faults that wait for messages, and the hubs that are down."""
        return self._surroundings.faults

    def inject(self, fault: Fault, now: float) -> int | None:
        """Let a fault come; returns its number if it waits for messages."""
        fault_id = self._faults.inject(fault, now)
        self._sm_wan.settle(self._commands, now)
        return fault_id

    def hit(self, hop: Hop, user: EntityId | None) -> Hit:
        """Say what faults do to one message between a user and the DCC; times are in seconds."""
        return self._faults.hit(hop, user)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._faults.handle_timer(now)
        self._network.handle_timer(now)
        self._sm_wan.settle(self._commands, now)
        self._commands.handle_timer(now)
        self._sm_wan.settle(self._commands, now)
        self._outbox.handle_timer(now)

    def get_timer(self) -> float | None:
        """Return when handle_timer is to be called, or None."""
        timers = (
            self._faults.get_timer(),
            self._network.get_timer(),
            self._commands.get_timer(),
            self._outbox.get_timer(),
        )
        return min((timer for timer in timers if timer is not None), default=None)

    @property
    def has_work_to_hand_out(self) -> bool:
        """Whether `take_effects` has more than log lines."""
        return any(not isinstance(effect, Note) for effect in self._state.effects)

    def take_effects(self) -> list[Effect]:
        """Return what is to be done, in order; each effect is returned once."""
        effects = self._state.effects
        self._state.effects = []
        return effects
