"""Decoders of the signing service: what it is asked, what it answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from dsrsp.config import SigningServiceConfig
from dsrsp.errors import SignerUnavailable, SigningFailed, SigningRefused
from dsrsp.http_signer import USE_ECS46A, USE_ROUTE_2B_MESSAGE, USE_ROUTE_2B_PROOF, HttpSigner
from fuzzing.engine import Decoder
from gbcs import CraFlag, EcdsaSigner
from gbcs.messages import Label, PreCommand
from gbcs.pki import DEFAULT_DEVICE, DEFAULT_LOAD_CONTROLLER, DEFAULT_SUPPLIER
from gbcs.ports import NullJournal
from gbcs.route_2b import Route2bMessage
from gbcs.route_2b_transcript import Transcript
from lab.signing_policy import RequestRefused, SigningPolicy
from lab.signing_service import SigningService

_URL = "http://127.0.0.1:8090"


def decoders() -> list[Decoder]:
    """Return this part of the table."""
    supplier, device = DEFAULT_SUPPLIER, DEFAULT_DEVICE
    whole = Route2bMessage(supplier, device, 7, CraFlag.COMMAND, bytes.fromhex("080000") + b"text")
    uses = {
        USE_ECS46A: PreCommand(supplier, device, 7, (Label(1, "AAAA"),)).to_bytes(),
        USE_ROUTE_2B_MESSAGE: whole.to_bytes(),
        USE_ROUTE_2B_PROOF: Transcript(
            1, device, supplier, bytes(32), b"n" * 32, bytes(32)
        ).server_octets(),
    }
    policy = SigningPolicy(supplier, per_minute=dict.fromkeys(uses, 1 << 30), message_octets=4096)
    service = SigningService(
        DEFAULT_SUPPLIER,
        EcdsaSigner(ec.derive_private_key(11, ec.SECP256R1())),
        "token",
        policy=policy,
        message_octets=4096,
        clock=lambda: 0.0,
        audit=NullJournal(),
    )
    client = HttpSigner(SigningServiceConfig(url=_URL), Path(), supplier_id=DEFAULT_SUPPLIER)
    text = base64.b64encode(bytes(range(64))).decode()
    asked = [
        json.dumps({"use": "ECS46a", "signer": str(signer), "octets": text}).encode()
        for signer in (DEFAULT_SUPPLIER, DEFAULT_LOAD_CONTROLLER)
    ]
    return [
        Decoder(
            "signing-request",
            ("lab.signing_service:SigningService._read_untrusted",),
            service._read_untrusted,
            (RequestRefused,),
            asked,
        ),
        *(
            Decoder(
                f"signing-{use.replace(' ', '-')}",
                ("lab.signing_policy:SigningPolicy.grant_untrusted",),
                lambda octets, use=use: policy.grant_untrusted(use, octets, 0.0),
                (RequestRefused,),
                [octets],
            )
            for use, octets in uses.items()
        ),
        *(
            Decoder(
                f"signing-answer-{status}",
                ("dsrsp.http_signer:HttpSigner._read_untrusted",),
                lambda octets, status=status: client._read_untrusted(status, octets),
                (SigningFailed, SigningRefused, SignerUnavailable),
                [
                    json.dumps({"signature": text}).encode(),
                    json.dumps({"error": "no key of this name"}).encode(),
                ],
            )
            for status in (200, 403, 503)
        ),
    ]
