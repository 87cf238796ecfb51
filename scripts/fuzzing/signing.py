"""Decoders of the signing service: what it is asked, what it answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from dsrsp.config import SigningServiceConfig
from dsrsp.errors import SignerUnavailable, SigningFailed, SigningRefused
from dsrsp.http_signer import HttpSigner
from fuzzing.engine import Decoder
from gbcs import EcdsaSigner
from gbcs.pki import DEFAULT_LOAD_CONTROLLER, DEFAULT_SUPPLIER
from gbcs.ports import NullJournal
from lab.signing_service import RequestRefused, SigningService

_URL = "http://127.0.0.1:8090"


def decoders() -> list[Decoder]:
    """Return this part of the table."""
    service = SigningService(
        DEFAULT_SUPPLIER,
        EcdsaSigner(ec.derive_private_key(11, ec.SECP256R1())),
        "token",
        per_minute=1,
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
