"""An inventory of very many devices: a CSV file with one line for each.

The first line names the columns, which are fields of `dcc_sim.config.DeviceConfig`. ``entity_id``
must be there, the others may be in any order or missing. An empty cell means the default::

    entity_id,status,region,hub
    02-53-4D-54-00-00-00-01,Commissioned,north,
    02-53-4D-54-00-00-00-02,Suspended,north,hub 7
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable

from dcc_sim.config import DeviceConfig
from dcc_sim.errors import ConfigError
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError

COLUMNS = DeviceConfig.__struct_fields__

_ENTITY_IDS = frozenset({"entity_id", "supplier_id"})


def parse_inventory(lines: Iterable[str], *, where: str) -> list[DeviceConfig]:
    """Read an inventory.

    Args:
        lines: of the file, the one with the columns first.
        where: what to call the file in errors.

    Raises:
        ConfigError: a column is unknown, or a line is no device; says which.
    """
    rows = csv.reader(lines)
    try:
        columns = [name.strip() for name in next(rows, [])]
        _check_columns(columns, where)
        return [_device(columns, row, f"{where}, line {rows.line_num}") for row in rows if row]
    except csv.Error as error:
        raise ConfigError(f"{where}, line {rows.line_num}: not CSV: {error}") from None


def _check_columns(columns: list[str], where: str) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "entity_id" not in columns or len(set(columns)) != len(columns):
        raise ConfigError(
            f"{where}: the first line is {','.join(columns)!r}: expected entity_id and any of "
            f"{', '.join(name for name in COLUMNS if name != 'entity_id')}, each once"
        )


def _device(columns: list[str], row: list[str], where: str) -> DeviceConfig:
    if len(row) != len(columns):
        raise ConfigError(f"{where}: {len(row)} cells, expected {len(columns)}")
    # One object for each text: most devices say the same.
    fields: dict[str, str | EntityId] = {
        name: sys.intern(cell) for name, cell in zip(columns, row, strict=True) if cell
    }
    try:
        for name in _ENTITY_IDS & fields.keys():
            fields[name] = EntityId.parse(str(fields[name]))
        return DeviceConfig(**fields)  # type: ignore[arg-type]  # checked by its own means
    except (BuildError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from None
    except TypeError:
        raise ConfigError(f"{where}: no entity_id") from None
