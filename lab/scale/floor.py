"""The floor: the bare cryptographic and XML operations that one fragment's journey needs.

Nothing of ours is in it: the library calls alone, over octets of the right size, one after the
other. What the programs do beside them is measured against it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from lxml import etree

from lab.scale.traffic import Journey

_ECDSA = ec.ECDSA(SHA256())
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Operations:
    """How often a component does what to one fragment.

    Attributes:
        signatures: ECDSA signatures made.
        verifications: ECDSA signatures verified.
        documents: signed DUIS documents that are read: parsed, and canonicalised with their
            signature.
        macs: GMACs.
    """

    signatures: int
    verifications: int
    documents: int
    macs: int


OPERATIONS = {
    # Reads two requests; signs two answers; verifies two requests, pre-command and response.
    "dcc-sim": Operations(signatures=2, verifications=4, documents=2, macs=1),
    # Signs two requests and the pre-command; verifies two answers and the response.
    "dsrsp": Operations(signatures=3, verifications=3, documents=2, macs=0),
    # Verifies the command, signs the response.
    "cem": Operations(signatures=1, verifications=1, documents=0, macs=1),
}
"""What cannot be left out, by component."""


def measure_floor(journey: Journey, rounds: int = 300) -> dict[str, float]:
    """Measure the floor of each component.

    Args:
        journey: whose octets are worked on.
        rounds: of which the median is taken.

    Returns:
        Seconds for one fragment, by component.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = key.public_key()
    gcm, octets = AESGCM(bytes(16)), journey.signed.to_bytes()
    signature = key.sign(octets, _ECDSA)
    sign_s = _median(lambda: key.sign(octets, _ECDSA), rounds)
    verify_s = _median(lambda: public_key.verify(signature, octets, _ECDSA), rounds)
    mac_s = _median(lambda: gcm.encrypt(bytes(12), b"", octets), rounds)
    documents = (journey.transform, journey.send)
    document_s = statistics.fmean(_median(partial(_read, xml), rounds) for xml in documents)
    return {
        name: one.signatures * sign_s
        + one.verifications * verify_s
        + one.documents * document_s
        + one.macs * mac_s
        for name, one in OPERATIONS.items()
    }


def _read(xml: bytes) -> None:
    root = etree.fromstring(xml)
    etree.tostring(root, method="c14n")
    etree.tostring(root[-1][0], method="c14n", exclusive=True)


def _median(work: Callable[[], object], rounds: int) -> float:
    spent = []
    for _ in range(_WARM_UP + rounds):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent[_WARM_UP:])
