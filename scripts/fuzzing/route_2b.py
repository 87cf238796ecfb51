"""Decoders of route 2b: messages, the texts of the handshake, the answers of an SMKI repository."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec

from fuzzing.engine import Decoder
from gbcs import CraFlag, EcdsaSigner, EntityId
from gbcs.errors import FormatError, Route2bRefused, SmkiRepositoryFormatError
from gbcs.route_2b import (
    Route2bMessage,
    parse_untrusted_route_2b,
    parse_untrusted_unsigned_route_2b,
    sign_route_2b,
)
from gbcs.route_2b_link import ClientHandshake, MessageGuard, ServerHandshake
from gbcs.route_2b_texts import (
    build_try_later,
    parse_untrusted_challenge,
    parse_untrusted_hello,
    parse_untrusted_proof,
    parse_untrusted_route_2b_path,
    parse_untrusted_try_later,
    parse_untrusted_welcome,
    route_2b_path,
)
from gbcs.route_2b_transcript import Transcript, parse_untrusted_server_octets
from gbcs.smki_repository import parse_untrusted_search_response

_KEY = ec.derive_private_key(11, ec.SECP256R1())
_DEVICE, _DSRSP = EntityId(b"a device"), EntityId(b"supplier")
_LIMIT = 4096
_GUARD = MessageGuard(_DEVICE, _DSRSP, CraFlag.ALERT, _KEY.public_key(), _LIMIT)
_TEXTS = "gbcs.route_2b_texts:parse_untrusted_"
_LINK = "gbcs.route_2b_link:"


def _fresh_client() -> ClientHandshake:
    return ClientHandshake(
        device=_DEVICE,
        dsrsp=_DSRSP,
        offer=1,
        message_octets=_LIMIT,
        certificate_sha256=bytes(32),
        signer=EcdsaSigner(_KEY),
        dsrsp_key=_KEY.public_key(),
        random_octets=lambda count: b"c" * count,
    )


def _client() -> ClientHandshake:
    handshake = _fresh_client()
    handshake.begin()
    return handshake


def _server() -> ServerHandshake:
    return ServerHandshake(
        dsrsp=_DSRSP,
        path_device=_DEVICE,
        check_offer=lambda device, offer: None if offer == 1 else "unknown",
        message_octets=_LIMIT,
        certificate_sha256=bytes(32),
        random_octets=lambda count: b"s" * count,
    )


def _texts() -> dict[str, str]:
    client, server = _fresh_client(), _server()
    hello = client.begin()
    server.receive_untrusted_hello(hello)
    challenge = server.admit(_KEY.public_key())
    proof = client.receive_untrusted_challenge(challenge)
    to_sign = server.receive_untrusted_proof(proof).server_octets()
    return {
        "hello": hello,
        "challenge": challenge,
        "proof": proof,
        "welcome": server.welcome(EcdsaSigner(_KEY).sign(to_sign)),
    }


def _handshake_rows(texts: dict[str, str]) -> list[Decoder]:
    def challenge(octets: bytes) -> object:
        return _client().receive_untrusted_challenge(octets.decode("latin-1"))

    def hello(octets: bytes) -> object:
        return _server().receive_untrusted_hello(octets.decode("latin-1"))

    def proof(octets: bytes) -> object:
        server = _server()
        server.receive_untrusted_hello(texts["hello"])
        server.admit(_KEY.public_key())
        return server.receive_untrusted_proof(octets.decode("latin-1"))

    def welcome(octets: bytes) -> object:
        client = _client()
        client.receive_untrusted_challenge(texts["challenge"])
        return client.receive_untrusted_welcome(octets.decode("latin-1"))

    parsers: dict[str, tuple[Callable[[bytes], object], Callable[[str], object]]] = {
        "hello": (hello, parse_untrusted_hello),
        "challenge": (challenge, parse_untrusted_challenge),
        "proof": (proof, parse_untrusted_proof),
        "welcome": (welcome, parse_untrusted_welcome),
    }
    rows = []
    for name, (step, parse) in parsers.items():
        end = "ServerHandshake" if name in ("hello", "proof") else "ClientHandshake"
        rows.append(
            Decoder(
                f"route-2b-{name}",
                (f"{_LINK}{end}.receive_untrusted_{name}",),
                step,
                (Route2bRefused,),
                [texts[name].encode()],
            )
        )
        rows.append(
            Decoder(
                f"route-2b-{name}-text",
                (f"{_TEXTS}{name}",),
                lambda octets, parse=parse: parse(octets.decode("latin-1")),
                (FormatError,),
                [texts[name].encode()],
            )
        )
    return rows


def _round_trip(octets: bytes) -> object:
    return _same(octets, parse_untrusted_route_2b(octets, max_message_octets=_LIMIT).to_bytes())


def _unsigned_round_trip(octets: bytes) -> object:
    message = parse_untrusted_unsigned_route_2b(octets, max_message_octets=_LIMIT)
    return _same(octets, message.to_bytes())


def _same(octets: bytes, again: bytes) -> bytes:
    if again != octets:
        raise AssertionError("what was read is not what is given back")
    return again


def decoders() -> list[Decoder]:
    """Return the rows of route 2b."""
    messages = [
        sign_route_2b(
            Route2bMessage(_DEVICE, _DSRSP, counter, CraFlag.ALERT, bytes(octets)),
            EcdsaSigner(_KEY),
        ).to_bytes()
        for counter, octets in ((1, 5), (2**40, 150), (3, 300))
    ]
    answer = (
        b"<CertificateSearchResponse><Result><CertificateSerial>ab</CertificateSerial>"
        b"<CertificateStatus>I</CertificateStatus></Result></CertificateSearchResponse>"
    )
    return [
        *_handshake_rows(_texts()),
        Decoder(
            "route-2b-message",
            ("gbcs.route_2b:parse_untrusted_route_2b",),
            _round_trip,
            (FormatError,),
            messages,
        ),
        Decoder(
            "route-2b-message-to-sign",
            ("gbcs.route_2b:parse_untrusted_unsigned_route_2b",),
            _unsigned_round_trip,
            (FormatError,),
            [message[:-65] + b"\x00" for message in messages],
        ),
        Decoder(
            "route-2b-proof-to-sign",
            ("gbcs.route_2b_transcript:parse_untrusted_server_octets",),
            lambda octets: _same(octets, parse_untrusted_server_octets(octets).server_octets()),
            (FormatError,),
            [Transcript(1, _DEVICE, _DSRSP, bytes(32), b"n" * 32, bytes(32)).server_octets()],
        ),
        Decoder(
            "route-2b-guard",
            (f"{_LINK}MessageGuard.check_untrusted",),
            _GUARD.check_untrusted,
            (Route2bRefused,),
            messages,
        ),
        Decoder(
            "route-2b-path",
            (f"{_TEXTS}route_2b_path",),
            lambda octets: parse_untrusted_route_2b_path(octets.decode("latin-1")),
            (FormatError,),
            [route_2b_path(_DEVICE).encode()],
        ),
        Decoder(
            "route-2b-try-later",
            (f"{_TEXTS}try_later",),
            lambda octets: parse_untrusted_try_later(octets.decode("latin-1")),
            (),
            [build_try_later(12, "busy").encode()],
        ),
        Decoder(
            "smki-search-answer",
            ("gbcs.smki_repository:parse_untrusted_search_response",),
            parse_untrusted_search_response,
            (SmkiRepositoryFormatError,),
            [answer],
        ),
    ]
