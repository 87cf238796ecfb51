from __future__ import annotations

import random
from pathlib import Path

from smtunnel import (
    ECS46A,
    ECS200,
    MessageReassembled,
    Originator,
    Reassembler,
    encode_message,
    labels_to_payload,
    payload_to_labels,
)


def test_every_openadr_message_goes_through_both_carriers(reference_vectors: Path) -> None:
    paths = sorted(reference_vectors.glob("openadr/*.xml"))
    assert paths
    chance = random.Random(6)
    for carrier, originator in ((ECS46A, Originator.DSRSP), (ECS200, Originator.CEM)):
        target = Reassembler(originator=originator, carrier=carrier)
        counter = 1
        for number, path in enumerate(paths):
            message = path.read_bytes()
            payloads = encode_message(
                message, carrier=carrier, originator=originator, tunnel_message_id=number % 256
            ).payloads
            order = list(range(len(payloads)))
            chance.shuffle(order)
            for index in order:
                payload: str | None = payloads[index]
                if carrier is ECS46A:
                    payload = labels_to_payload(payload_to_labels(payloads[index]))
                assert payload is not None
                events = target.receive_fragment(
                    b"peer", payload, originator_counter=counter + index, now=0.0
                )
            end = events[-1]
            assert isinstance(end, MessageReassembled), path.name
            assert end.message == message, path.name
            counter += len(payloads)
