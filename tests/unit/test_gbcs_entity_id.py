from __future__ import annotations

import pytest

from gbcs import EntityId
from gbcs.errors import BuildError

OCTETS = bytes.fromhex("90b3d51f30010000")


@pytest.mark.parametrize(
    "text",
    [
        "90-B3-D5-1F-30-01-00-00",
        "90-b3-d5-1f-30-01-00-00",
        "90:B3:D5:1f:30:01:00:00",
        "90b3d51f30010000",
        "90B3D51F30010000",
    ],
)
def test_every_usual_way_of_writing_is_read(text: str) -> None:
    assert EntityId.parse(text) == EntityId(OCTETS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90b3d51f3001000",
        "90b3d51f300100000",
        "90-B3-D5:1F-30-01-00-00",
        "90-B3D5-1F-30-01-00-00",
        " 90b3d51f30010000",
        "90b3d51f30010000\n",
        "٩0b3d51f30010000",
        "g0b3d51f30010000",
    ],
)
def test_what_is_no_eui_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BuildError, match="90-B3-D5-1F-30-01-00-00"):
        EntityId.parse(text)


@pytest.mark.parametrize("octets", [b"", bytes(7), bytes(9), bytearray(8), "90b3d51f"])
def test_other_than_eight_octets_are_refused(octets: bytes) -> None:
    with pytest.raises(BuildError, match="8 octets"):
        EntityId(octets)


def test_it_is_written_in_two_ways_and_sorts() -> None:
    entity_id = EntityId(OCTETS)
    assert str(entity_id) == "90-B3-D5-1F-30-01-00-00"
    assert entity_id.hex == "90b3d51f30010000"
    assert repr(entity_id) == "EntityId('90-B3-D5-1F-30-01-00-00')"
    assert EntityId(bytes(8)) < entity_id
    assert len({entity_id, EntityId(OCTETS)}) == 1
