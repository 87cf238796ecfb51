"""Makes specs/vectors/route-2b.json: messages, handshakes and refusals of route 2b.

Run it as ``python scripts/make_route_2b_vectors.py > specs/vectors/route-2b.json``. Signatures are
deterministic (RFC 6979), so it always writes the same octets; a test compares. Messages, texts and
what is signed are put together here from the specification, not by the library, which only signs:
so the library is tested against them like any other implementation.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gbcs import EcdsaSigner

SUPPLIER = "02534d5400000002"
DEVICE = "02534d5400001001"
OTHER = "02534d5400001002"
ABOUT = (
    "Route 2b, see specs/route-2b.md and the section on these vectors there. All octets are "
    "hexadecimal, counters decimal text, EUIs sixteen digits. Signatures are ECDSA P-256 with "
    "SHA-256, raw r || s, made deterministically (RFC 6979); any valid signature is as good. The "
    "keys are made from public text: never use them for anything else."
)


def _key(name: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(sha256(b"smtunnel test vectors: " + name.encode()).digest(), "big")
    return ec.derive_private_key(number >> 1, ec.SECP256R1())


KEYS = {
    "supplier": _key("supplier digital signature"),
    "device": _key("device digital signature"),
    "other": _key("another device's digital signature"),
}
NONCE_1, NONCE_2 = sha256(b"client nonce").digest(), sha256(b"server nonce").digest()
CERTIFICATE = sha256(b"the DER of a certificate").digest()


def _sign(who: str, octets: bytes) -> bytes:
    return EcdsaSigner(KEYS[who], deterministic=True).sign(octets)


def _length(count: int) -> bytes:
    if count < 128:
        return bytes([count])
    octets = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes([128 + len(octets)]) + octets


def _body(
    payload: bytes,
    *,
    cra: int = 3,
    counter: int = 1,
    originator: str = DEVICE,
    target: str = SUPPLIER,
    code: bytes = b"\xff\x2b",
    version: int = 1,
    length: bytes | None = None,
    tag: bytes = b"\xdf",
) -> bytes:
    content = bytes([version]) + payload
    return b"".join(
        (
            tag,
            b"\x09",
            bytes([cra]),
            counter.to_bytes(8, "big"),
            b"\x08",
            bytes.fromhex(originator),
            b"\x08",
            bytes.fromhex(target),
            b"\x00\x02",
            code,
            _length(len(content)) if length is None else length,
            content,
        )
    )


def _signed(body: bytes, who: str) -> bytes:
    return body + b"\x40" + _sign(who, body[1:])


def _message(name: str, payload: bytes, counter: int, *, up: bool, repeat: int = 1) -> Any:
    whole = payload * repeat
    if up:
        octets = _signed(_body(whole, counter=counter), "device")
    else:
        body = _body(whole, cra=1, counter=counter, originator=SUPPLIER, target=DEVICE)
        octets = _signed(body, "supplier")
    case: dict[str, Any] = {
        "name": name,
        "cra_flag": 3 if up else 1,
        "originator_id": DEVICE if up else SUPPLIER,
        "target_id": SUPPLIER if up else DEVICE,
        "originator_counter": str(counter),
        "payload": payload.hex(),
        "signed_by": "device" if up else "supplier",
        "octet_count": len(octets),
    }
    if repeat == 1:
        return case | {"octets": octets.hex()}
    # Long ones would fill the file: the head, the end and a hash say the same.
    return case | {
        "payload_repeated": repeat,
        "octets_begin": octets[:40].hex(),
        "signature": octets[-64:].hex(),
        "octets_sha256": sha256(octets).hexdigest(),
    }


def messages() -> list[Any]:
    """Return messages that must be built, read and verified."""
    return [
        _message("up, a short one", bytes.fromhex("880001") + b"hello", 1, up=True),
        _message("down, a short one", bytes.fromhex("080005") + b"hello", 2**32, up=False),
        _message("nothing inside", b"", 2**64 - 1, up=True),
        _message("content of 127 octets", bytes(126), 5, up=True),
        _message("content of 128 octets", bytes(127), 6, up=True),
        _message("content of 255 octets", bytes(254), 7, up=True),
        _message("content of 256 octets", bytes(255), 8, up=False),
        _message("content of 65535 octets", b"\x2b", 9, up=True, repeat=65534),
        _message("content of 65536 octets", b"\x2b", 10, up=True, repeat=65535),
        _message("content of a mebibyte", b"\x2b\x00", 11, up=False, repeat=1 << 19),
    ]


def refused_messages() -> list[Any]:
    """Return messages for the supplier that must be refused, each with one fault."""
    good = _signed(_body(b"hello"), "device")

    def case(name: str, octets: bytes, code: int) -> Any:
        return {"name": name, "octets": octets.hex(), "close_code": code}

    def changed(at: int, value: int) -> bytes:
        return good[:at] + bytes([value]) + good[at + 1 :]

    return [
        case("no octets", b"", 4400),
        case("cut short in the header", good[:20], 4400),
        case("cut short in the content", good[:38], 4400),
        case("cut short in the signature", good[:-1], 4400),
        case("one octet too many", good + b"\x00", 4400),
        case("another tag", changed(0, 0xDD), 4400),
        case("transaction id length", changed(1, 8), 4400),
        case("CRA flag of a response", _signed(_body(b"hello", cra=2), "device"), 4400),
        case("CRA flag of a command, from a device", _signed(_body(b"x", cra=1), "device"), 4400),
        case("date-time present", changed(29, 1), 4400),
        case("message code of ECS200", _signed(_body(b"x", code=b"\x01\x23"), "device"), 4400),
        case("message code of ECS46a", _signed(_body(b"x", code=b"\x00\x53"), "device"), 4400),
        case("version 2", _signed(_body(b"hello", version=2), "device"), 4400),
        case("version 0", _signed(_body(b"hello", version=0), "device"), 4400),
        case("no content", _body(b"", length=b"\x00")[:-1] + good[-65:], 4400),
        case(
            "length in 81 that fits one", _signed(_body(b"x", length=b"\x81\x02"), "device"), 4400
        ),
        case(
            "length in 82 that fits 81",
            _signed(_body(bytes(199), length=b"\x82\x00\xc8"), "device"),
            4400,
        ),
        case("length in 85", _signed(_body(b"x", length=b"\x85\0\0\0\0\x02"), "device"), 4400),
        case("length 80", _signed(_body(b"x", length=b"\x80"), "device"), 4400),
        case("length beyond the end", _signed(_body(b"x", length=b"\x7f"), "device"), 4400),
        case("unsigned", _body(b"hello") + b"\x00", 4400),
        case("without even a signature length", _body(b"hello"), 4400),
        case("another device", _signed(_body(b"x", originator=OTHER), "device"), 4406),
        case("for another supplier", _signed(_body(b"x", target=OTHER), "device"), 4406),
        case(
            "the supplier's own, reflected",
            _signed(_body(b"x", cra=1, originator=SUPPLIER, target=DEVICE), "supplier"),
            4406,
        ),
        case("payload changed", changed(36, good[36] ^ 1), 4401),
        case("counter changed", changed(10, 2), 4401),
        case("signature changed", changed(len(good) - 1, good[-1] ^ 1), 4401),
        case("signature of noughts", good[:-64] + bytes(64), 4401),
        case("signed by another device", _signed(_body(b"hello"), "other"), 4401),
        case(
            "signed with its tag",
            _body(b"hello") + b"\x40" + _sign("device", _body(b"hello")),
            4401,
        ),
    ]


def _b64(octets: bytes) -> str:
    return b64encode(octets).decode()


def _transcript(context: bytes, version: int = 1) -> bytes:
    return b"".join(
        (
            b"smtunnel route 2b " + context + b"\x00",
            bytes([version]),
            bytes.fromhex(DEVICE),
            bytes.fromhex(SUPPLIER),
            NONCE_1,
            NONCE_2,
            CERTIFICATE,
        )
    )


HELLO = {
    "type": "hello",
    "version": 1,
    "device": DEVICE,
    "dsrsp": SUPPLIER,
    "nonce": _b64(NONCE_1),
    "offer": 7,
    "message_octets": 1048576,
}
CHALLENGE = {"type": "challenge", "version": 1, "nonce": _b64(NONCE_2)}
PROOF = {"type": "proof", "signature": _b64(_sign("device", _transcript(b"client")))}
WELCOME = {
    "type": "welcome",
    "signature": _b64(_sign("supplier", _transcript(b"server"))),
    "message_octets": 2097152,
}


def handshake() -> dict[str, Any]:
    """Return one handshake that succeeds, with all that goes into it."""
    return {
        "path": f"/route-2b/{DEVICE}",
        "subprotocol": "smtunnel.route-2b.v1",
        "device": DEVICE,
        "dsrsp": SUPPLIER,
        "offer": 7,
        "client_nonce": NONCE_1.hex(),
        "server_nonce": NONCE_2.hex(),
        "certificate_sha256": CERTIFICATE.hex(),
        "client_signs": _transcript(b"client").hex(),
        "server_signs": _transcript(b"server").hex(),
        "hello": json.dumps(HELLO),
        "challenge": json.dumps(CHALLENGE),
        "proof": json.dumps(PROOF),
        "welcome": json.dumps(WELCOME),
    }


def refused_texts() -> list[Any]:
    """Return what must be refused in place of one text of that handshake."""
    texts = {"hello": HELLO, "challenge": CHALLENGE, "proof": PROOF, "welcome": WELCOME}

    def case(name: str, step: str, code: int, **change: Any) -> Any:
        return {
            "name": name,
            "step": step,
            "text": json.dumps(texts[step] | change),
            "close_code": code,
        }

    def raw(name: str, step: str, text: str) -> Any:
        return {"name": name, "step": step, "text": text, "close_code": 4400}

    def without(step: str, field: str) -> Any:
        text = json.dumps({k: v for k, v in texts[step].items() if k != field})
        return raw(f"{step} without {field}", step, text)

    tail = _b64(NONCE_1)[:-2] + "B="
    cases = [without(step, field) for step, fields in texts.items() for field in fields]
    for step in texts:
        cases += [
            raw(f"{step}: no JSON", step, "{"),
            raw(f"{step}: a list", step, "[]"),
            raw(f"{step}: too long", step, json.dumps(texts[step]) + " " * 1024),
            case(f"{step}: a field more", step, 4400, more=1),
            case(f"{step}: another type", step, 4400, type="other"),
        ]
    return [
        *cases,
        case("a version that is not known", "hello", 4407, version=2),
        case("version as text", "hello", 4400, version="1"),
        case("version true", "hello", 4400, version=True),
        case("version 256", "hello", 4400, version=256),
        case("another device than the path's", "hello", 4406, device=OTHER),
        case("another DSRSP", "hello", 4406, dsrsp=OTHER),
        case("EUI in capitals", "hello", 4400, device=DEVICE.upper()),
        case("EUI with hyphens", "hello", 4400, device="02-53-4d-54-00-00-10-01"),
        case("an offer that is not known", "hello", 4410, offer=8),
        case("an offer of 33 bits", "hello", 4400, offer=2**32),
        case("message_octets too low", "hello", 4400, message_octets=511),
        case("message_octets of 33 bits", "hello", 4400, message_octets=2**32),
        case("message_octets with a point", "hello", 4400, message_octets=4096.5),
        case("nonce of 31 octets", "hello", 4400, nonce=_b64(NONCE_1[1:])),
        case("nonce with a tail that is not canonical", "hello", 4400, nonce=tail),
        case("nonce with a blank", "hello", 4400, nonce=" " + _b64(NONCE_1)),
        case("challenge in another version", "challenge", 4407, version=2),
        case("challenge with the hello's nonce", "challenge", 4400, nonce=_b64(NONCE_1)),
        case(
            "proof with the server's context",
            "proof",
            4401,
            signature=_b64(_sign("device", _transcript(b"server"))),
        ),
        case(
            "proof by another key",
            "proof",
            4401,
            signature=_b64(_sign("other", _transcript(b"client"))),
        ),
        case(
            "proof for another certificate",
            "proof",
            4401,
            signature=_b64(_sign("device", _transcript(b"client")[:-32] + bytes(32))),
        ),
        case(
            "proof of another connection",
            "proof",
            4401,
            signature=_b64(_sign("device", _transcript(b"client").replace(NONCE_2, NONCE_1))),
        ),
        case(
            "proof without the NUL",
            "proof",
            4401,
            signature=_b64(_sign("device", _transcript(b"client").replace(b"client\0", b"client"))),
        ),
        case("signature of 63 octets", "proof", 4400, signature=_b64(bytes(63))),
        case("the proof reflected", "welcome", 4401, signature=PROOF["signature"]),
        case(
            "welcome by another key",
            "welcome",
            4401,
            signature=_b64(_sign("other", _transcript(b"server"))),
        ),
        case("welcome that takes too little", "welcome", 4400, message_octets=100),
    ]


def refused_paths() -> list[str]:
    """Return paths that are answered 404."""
    return [
        "/",
        "/route-2b",
        "/route-2b/",
        f"/route-2b/{DEVICE.upper()}",
        f"/route-2b/{DEVICE}/",
        "/route-2b/02-53-4d-54-00-00-10-01",
        f"/route-2b/{DEVICE}?a",
        f"/device/{DEVICE}",
    ]


def main() -> None:
    """Write the vectors to standard output."""
    keys = {
        name: {
            "private": f"{key.private_numbers().private_value:064x}",
            "public": key.public_key()
            .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            .hex(),
        }
        for name, key in KEYS.items()
    }
    vectors = {
        "about": ABOUT,
        "keys": keys,
        "messages": messages(),
        "refused_messages": refused_messages(),
        "handshake": handshake(),
        "refused_texts": refused_texts(),
        "refused_paths": refused_paths(),
        "try_later": [
            {"reason": "12 s: too many at once", "wait_s": 12},
            {"reason": "1 s", "wait_s": 1},
            {"reason": "soon", "wait_s": None},
            {"reason": "", "wait_s": None},
            {"reason": "12", "wait_s": None},
            {"reason": "123456 s: far too long", "wait_s": None},
        ],
    }
    sys.stdout.write(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
