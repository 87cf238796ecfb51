"""Every captured OpenADR message through the tunnel with the preset dictionary."""

from __future__ import annotations

from pathlib import Path

import pytest

from openadr_xml import compact
from smtunnel import (
    DICTIONARIES,
    ECS46A,
    ECS200,
    Carrier,
    MessageAssembly,
    Originator,
    encode_message,
    parse_untrusted_fragment,
)


@pytest.mark.parametrize("carrier", [ECS46A, ECS200], ids=lambda carrier: carrier.name)
@pytest.mark.parametrize("window_bits", [15, 10])
def test_every_message_comes_through(
    reference_vectors: Path, carrier: Carrier, window_bits: int
) -> None:
    files = sorted((reference_vectors / "openadr").glob("*.xml"))
    assert files
    for file in files:
        for message in (file.read_bytes(), compact(file.read_bytes())):
            encoded = encode_message(
                message,
                carrier=carrier,
                originator=Originator.DSRSP,
                tunnel_message_id=3,
                peer_dictionaries=DICTIONARIES,
                window_bits=window_bits,
            )
            assert encoded.dictionary_id in DICTIONARIES, file.name
            assembly = MessageAssembly(window_bits=window_bits)
            for payload in encoded.payloads:
                assembly.add(parse_untrusted_fragment(payload, carrier))
            assert assembly.decode() == message, file.name
