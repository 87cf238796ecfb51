"""The DCC as one object: what comes in are calls, what goes out are effects."""

from __future__ import annotations

from dcc_sim.config import DccSimConfig
from dcc_sim.core.command_desk import CommandDesk
from dcc_sim.core.effects import Effect, Reply, Severity
from dcc_sim.core.keys import Keys
from dcc_sim.core.messages import DuisWriter
from dcc_sim.core.outbox import Outbox
from dcc_sim.core.request_desk import RequestDesk
from dcc_sim.core.services import Service
from dcc_sim.core.state import State
from dcc_sim.errors import DeviceMessageRefused
from dcc_sim.ports import Storage
from gbcs.device_link import Challenge, parse_untrusted_proof, verify_proof
from gbcs.duis import Schema
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError, FormatError, SignatureInvalid
from gbcs.ports import Journal


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
        now: the time.

    Raises:
        StoreError: the state cannot be read.
    """

    def __init__(
        self,
        config: DccSimConfig,
        keys: Keys,
        storage: Storage,
        *,
        schema: Schema | None,
        journal: Journal,
        now: float,
    ) -> None:
        self._keys = keys
        self._state = State(config, storage, journal)
        writer = DuisWriter(self._state, keys.xml_signer, schema)
        self._outbox = Outbox(self._state, now)
        self._commands = CommandDesk(self._state, keys, writer, self._outbox, now)
        self._requests = RequestDesk(self._state, keys, writer, self._commands, schema)

    def receive_untrusted_request(self, service: Service, octets: bytes, now: float) -> Reply:
        """Answer one DUIS request that came to one of the services."""
        return self._requests.receive_untrusted_request(service, octets, now)

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
        self._commands.receive_untrusted_message(device, octets, now)

    def handle_posted(self, posting_id: int) -> None:
        """A user took what a Post effect carried (HTTP status 2xx)."""
        self._outbox.handle_posted(posting_id)

    def handle_post_failed(
        self, posting_id: int, reason: str, now: float, *, reached: bool
    ) -> None:
        """A Post effect came to nothing; reached says whether the user answered at all."""
        self._outbox.handle_post_failed(posting_id, reason, now, reached=reached)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._commands.handle_timer(now)
        self._outbox.handle_timer(now)

    def get_timer(self) -> float | None:
        """Return when handle_timer is to be called, or None."""
        timers = (self._commands.get_timer(), self._outbox.get_timer())
        return min((timer for timer in timers if timer is not None), default=None)

    def take_effects(self) -> list[Effect]:
        """Return what is to be done, in order; each effect is returned once."""
        effects = self._state.effects
        self._state.effects = []
        return effects
