"""The inventory of very many devices as a CSV file."""

from __future__ import annotations

import pytest

from dcc_sim import ConfigError, DeviceConfig, parse_inventory
from gbcs import EntityId

FIRST = EntityId.parse("02-53-4D-54-00-00-00-01")
SECOND = EntityId.parse("02-53-4D-54-00-00-00-02")
SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")


def test_columns_in_any_order_and_empty_cells_mean_the_default() -> None:
    lines = [
        "status,entity_id,supplier_id,hub\n",
        f"Suspended,{FIRST},{SUPPLIER},hub 7\n",
        "\n",
        f",{SECOND.hex},,\n",
    ]
    assert parse_inventory(lines, where="devices.csv") == [
        DeviceConfig(entity_id=FIRST, status="Suspended", supplier_id=SUPPLIER, hub="hub 7"),
        DeviceConfig(entity_id=SECOND),
    ]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "the first line is ''"),
        (["status\n"], "expected entity_id"),
        (["entity_id,colour\n"], "expected entity_id"),
        (["entity_id,entity_id\n"], "each once"),
        (["entity_id\n", "1\n"], "line 2: '1' is not an EUI-64"),
        (["entity_id,status\n", f"{FIRST}\n"], "line 2: 1 cells, expected 2"),
        (["entity_id,status\n", f"{FIRST},Asleep\n"], "line 2: device .* status 'Asleep'"),
        (["entity_id,status\n", ",Pending\n"], "line 2: no entity_id"),
        (["entity_id\n", "a\rb\n"], "line 2: not CSV"),
    ],
)
def test_what_is_no_inventory_is_refused_with_its_line(lines: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_inventory(lines, where="devices.csv")
