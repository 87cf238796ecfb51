"""The handshake of route 2b, without I/O: each end proves its SMKI identity to the other.

::

    client                           server
    START                            AWAITING_HELLO
      hello           ------------->   path, versions, EUIs, offer; then the device's certificate
    AWAITING_CHALLENGE               CHECKING_DEVICE
                      <-------------   challenge
    AWAITING_WELCOME                 AWAITING_PROOF
      proof           ------------->   the device's signature
                                     AWAITING_SIGNATURE
                      <-------------   welcome: the server's signature
    OPEN                             OPEN

Both sign the same octets but for their context, each with its digital-signature key: see
`gbcs.route_2b_transcript`. So a proof is of no use on another connection (nonces), in the other
direction (context), for another pair (EUIs), or to somebody between the two who shows another
certificate (its hash). The server's key may live elsewhere: its end asks for nothing but the
signature.

Whatever is not as it must be raises `Route2bRefused` with the close code that tells the peer.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from gbcs.crypto import verify_signature
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, FormatError, Route2bRefused, SignatureInvalid
from gbcs.header import CraFlag, check_octets
from gbcs.ports import Randomness, Signer
from gbcs.route_2b import Route2bMessage, parse_untrusted_route_2b, verify_route_2b
from gbcs.route_2b_texts import (
    NONCE_OCTETS,
    VERSION,
    Challenge,
    CloseCode,
    Hello,
    Proof,
    Welcome,
    parse_untrusted_challenge,
    parse_untrusted_hello,
    parse_untrusted_proof,
    parse_untrusted_welcome,
)
from gbcs.route_2b_transcript import FINGERPRINT_OCTETS, Transcript

T = TypeVar("T")


class State(enum.Enum):
    """Where one end of a handshake is."""

    START = "nothing was sent"
    AWAITING_CHALLENGE = "the hello is sent"
    AWAITING_WELCOME = "the proof is sent"
    AWAITING_HELLO = "connected"
    CHECKING_DEVICE = "the hello is here, the device's certificate is looked for"
    AWAITING_PROOF = "the challenge is sent"
    AWAITING_SIGNATURE = "the device is proven, our own signature is due"
    OPEN = "both are proven"
    REFUSED = "over"


class _Input(enum.Enum):
    BEGIN = "begin"
    CHALLENGE = "challenge"
    WELCOME = "welcome"
    HELLO = "hello"
    DEVICE_FOUND = "device found"
    PROOF = "proof"
    SIGNATURE = "signature"


# Whatever fails leads to REFUSED; what does not stand here cannot be asked for.
_TRANSITIONS: Final = {
    (State.START, _Input.BEGIN): State.AWAITING_CHALLENGE,
    (State.AWAITING_CHALLENGE, _Input.CHALLENGE): State.AWAITING_WELCOME,
    (State.AWAITING_WELCOME, _Input.WELCOME): State.OPEN,
    (State.AWAITING_HELLO, _Input.HELLO): State.CHECKING_DEVICE,
    (State.CHECKING_DEVICE, _Input.DEVICE_FOUND): State.AWAITING_PROOF,
    (State.AWAITING_PROOF, _Input.PROOF): State.AWAITING_SIGNATURE,
    (State.AWAITING_SIGNATURE, _Input.SIGNATURE): State.OPEN,
}


class _Handshake:
    """What both ends have in common: the state, and that a refusal ends it."""

    def __init__(self, state: State, certificate_sha256: bytes, random_octets: Randomness) -> None:
        check_octets(certificate_sha256, FINGERPRINT_OCTETS, "a certificate's SHA-256")
        self._state = state
        self._certificate_sha256 = certificate_sha256
        self._nonce = random_octets(NONCE_OCTETS)

    @property
    def state(self) -> State:
        """Where the handshake is."""
        return self._state

    def _expect(self, input_: _Input) -> State:
        """Return the state after an input; until it is reached the handshake counts as over."""
        after = _TRANSITIONS.get((self._state, input_))
        if after is None:
            raise BuildError(f"no {input_.value} is due: {self._state.value}")
        self._state = State.REFUSED
        return after


class ClientHandshake(_Handshake):
    """The CEM's end.

    Args:
        device: this device.
        dsrsp: whom the offer came from.
        offer: its number.
        version: one that the offer names and this end speaks.
        message_octets: the longest message that this end takes.
        certificate_sha256: of the certificate that the server has shown: one of the offer's pins.
        signer: the device's digital-signature key.
        dsrsp_key: of the DSRSP's digital-signature certificate, trusted.
        random_octets: for the nonce.
    """

    def __init__(
        self,
        *,
        device: EntityId,
        dsrsp: EntityId,
        offer: int,
        version: int = VERSION,
        message_octets: int,
        certificate_sha256: bytes,
        signer: Signer,
        dsrsp_key: EllipticCurvePublicKey,
        random_octets: Randomness,
    ) -> None:
        super().__init__(State.START, certificate_sha256, random_octets)
        self._hello = Hello(
            version=version,
            device=device,
            dsrsp=dsrsp,
            nonce=self._nonce,
            offer=offer,
            message_octets=message_octets,
        )
        self._signer = signer
        self._dsrsp_key = dsrsp_key
        self._transcript: Transcript

    def begin(self) -> str:
        """Return the hello."""
        self._state = self._expect(_Input.BEGIN)
        return self._hello.build()

    def receive_untrusted_challenge(self, text: str | bytes) -> str:
        """Read the challenge.

        Returns:
            The proof.

        Raises:
            Route2bRefused: it is not what it must be.
        """
        after = self._expect(_Input.CHALLENGE)
        challenge = _read(parse_untrusted_challenge, text)
        if challenge.version != self._hello.version:
            raise Route2bRefused(
                CloseCode.NO_COMMON_VERSION,
                f"asked for version {self._hello.version}, challenged in {challenge.version}",
            )
        if challenge.nonce == self._nonce:
            raise Route2bRefused(CloseCode.MALFORMED, "the challenge has the nonce of the hello")
        self._transcript = Transcript(
            self._hello.version,
            self._hello.device,
            self._hello.dsrsp,
            self._nonce,
            challenge.nonce,
            self._certificate_sha256,
        )
        self._state = after
        return Proof(self._signer.sign(self._transcript.client_octets())).build()

    def receive_untrusted_welcome(self, text: str | bytes) -> Welcome:
        """Read the welcome, check that the server is who it must be.

        Returns:
            What the server takes.

        Raises:
            Route2bRefused: it is not what it must be, or the server's signature does not hold.
        """
        after = self._expect(_Input.WELCOME)
        welcome = _read(parse_untrusted_welcome, text)
        _verify(self._dsrsp_key, welcome.signature, self._transcript.server_octets(), "DSRSP")
        self._state = after
        return welcome


class ServerHandshake(_Handshake):
    """The DSRSP's end.

    Args:
        dsrsp: this end: the supplier's EUI.
        path_device: whom the WebSocket path names.
        versions: those that this end speaks.
        check_offer: tells what is wrong with an offer's number for a device, or None.
        message_octets: the longest message that this end takes.
        certificate_sha256: of this server's TLS certificate.
        random_octets: for the nonce.
    """

    def __init__(
        self,
        *,
        dsrsp: EntityId,
        path_device: EntityId,
        versions: tuple[int, ...] = (VERSION,),
        check_offer: Callable[[EntityId, int], str | None],
        message_octets: int,
        certificate_sha256: bytes,
        random_octets: Randomness,
    ) -> None:
        super().__init__(State.AWAITING_HELLO, certificate_sha256, random_octets)
        self._dsrsp = dsrsp
        self._path_device = path_device
        self._versions = versions
        self._check_offer = check_offer
        self._message_octets = message_octets
        self._device_key: EllipticCurvePublicKey
        self._transcript: Transcript

    def receive_untrusted_hello(self, text: str | bytes) -> Hello:
        """Read the hello. The caller then looks for the device's certificate.

        Raises:
            Route2bRefused: it is not what it must be.
        """
        after = self._expect(_Input.HELLO)
        hello = _read(parse_untrusted_hello, text)
        if hello.version not in self._versions:
            known = ", ".join(map(str, self._versions))
            raise Route2bRefused(
                CloseCode.NO_COMMON_VERSION, f"version {hello.version}: this end speaks {known}"
            )
        if hello.device != self._path_device:
            raise Route2bRefused(
                CloseCode.WRONG_ENTITY,
                f"the path names {self._path_device}, the hello {hello.device}",
            )
        if hello.dsrsp != self._dsrsp:
            raise Route2bRefused(
                CloseCode.WRONG_ENTITY, f"this is {self._dsrsp}, not {hello.dsrsp}"
            )
        wrong = self._check_offer(hello.device, hello.offer)
        if wrong is not None:
            raise Route2bRefused(CloseCode.OFFER_OVER, wrong)
        self._transcript = Transcript(
            hello.version,
            hello.device,
            hello.dsrsp,
            hello.nonce,
            self._nonce,
            self._certificate_sha256,
        )
        self._state = after
        return hello

    def admit(self, device_key: EllipticCurvePublicKey) -> str:
        """Go on with a device whose certificate is trusted.

        Args:
            device_key: of its digital-signature certificate.

        Returns:
            The challenge.
        """
        after = self._expect(_Input.DEVICE_FOUND)
        self._device_key = device_key
        self._state = after
        return Challenge(self._transcript.version, self._nonce).build()

    def receive_untrusted_proof(self, text: str | bytes) -> Transcript:
        """Read the proof, check that the device is who it must be.

        Returns:
            What the DSRSP is to sign now: its ``server_octets()``.

        Raises:
            Route2bRefused: it is not what it must be, or the device's signature does not hold.
        """
        after = self._expect(_Input.PROOF)
        proof = _read(parse_untrusted_proof, text)
        _verify(self._device_key, proof.signature, self._transcript.client_octets(), "device")
        self._state = after
        return self._transcript

    def welcome(self, signature: bytes) -> str:
        """Let the device in.

        Args:
            signature: of the supplier's digital-signature key, over what the proof's step gave.

        Returns:
            The welcome.
        """
        after = self._expect(_Input.SIGNATURE)
        text = Welcome(signature, self._message_octets).build()
        self._state = after
        return text


@dataclass(frozen=True, slots=True)
class MessageGuard:
    """Checks every message that comes over an open connection.

    Args:
        originator: who must have made and signed it.
        target: whom it must be for.
        cra_flag: COMMAND from a DSRSP, ALERT from a device.
        public_key: of the originator's digital-signature certificate.
        message_octets: the longest message that this end takes.
    """

    originator: EntityId
    target: EntityId
    cra_flag: CraFlag
    public_key: EllipticCurvePublicKey
    message_octets: int

    def check_untrusted(self, received: str | bytes) -> Route2bMessage:
        """Read a message, check names and signature. Replay is the tunnel's to see.

        Raises:
            Route2bRefused: it is not what it must be.
        """
        if isinstance(received, str):
            raise Route2bRefused(CloseCode.MALFORMED, "a text came where messages are due")
        if len(received) > self.message_octets:
            raise Route2bRefused(
                CloseCode.TOO_LONG,
                f"a message of {len(received)} octets: this end takes {self.message_octets}",
            )
        try:
            message = parse_untrusted_route_2b(received, max_message_octets=self.message_octets)
        except FormatError as error:
            raise Route2bRefused(CloseCode.MALFORMED, str(error)) from None
        for what, found, expected in (
            ("originator", message.originator_id, self.originator),
            ("recipient", message.target_id, self.target),
        ):
            if found != expected:
                raise Route2bRefused(
                    CloseCode.WRONG_ENTITY, f"the message's {what} is {found}, not {expected}"
                )
        if message.cra_flag is not self.cra_flag:
            raise Route2bRefused(
                CloseCode.MALFORMED,
                f"CRA flag {message.cra_flag:02X} where {self.cra_flag:02X} is due",
            )
        try:
            verify_route_2b(message, self.public_key)
        except SignatureInvalid as error:
            raise Route2bRefused(CloseCode.BAD_SIGNATURE, str(error)) from None
        return message


def _verify(key: EllipticCurvePublicKey, signature: bytes, octets: bytes, whose: str) -> None:
    try:
        verify_signature(key, signature, octets)
    except SignatureInvalid:
        raise Route2bRefused(
            CloseCode.BAD_SIGNATURE,
            f"the {whose}'s proof does not hold for this connection, pair and certificate",
        ) from None


def _read(parse: Callable[[str | bytes], T], text: str | bytes) -> T:
    try:
        return parse(text)
    except FormatError as error:
        raise Route2bRefused(CloseCode.MALFORMED, str(error)) from None
