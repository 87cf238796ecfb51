"""Configuration files of the three daemons: TOML, checked field by field before anything starts.

Relative paths in a file are relative to the folder of that file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cem import CemConfig
from dcc_sim import DccSimConfig
from dsrsp import DsrspConfig
from gbcs import EntityId
from gbcs.errors import BuildError
from lab.errors import ConfigError

T = TypeVar("T")


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The local control interface of a gateway daemon.

    ``listen`` is "host:port" (port 0: any free one) or "fd:N", an inherited listening socket.
    ``token_file`` holds the secret that every caller must show; it is made, readable by its
    owner alone, when it does not exist.
    """

    listen: str
    token_file: str


class DsrspFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of ``smtunnel dsrsp``."""

    gateway: DsrspConfig
    control: ControlConfig
    journal: str | None = None


class CemFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of ``smtunnel cem``."""

    gateway: CemConfig
    control: ControlConfig
    journal: str | None = None


class DccSimFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of ``smtunnel dcc-sim``."""

    simulator: DccSimConfig
    journal: str | None = None


def _with_entity_ids(value: Any) -> Any:
    """Replace the text of every ``*_id`` by the EntityId that all of them are."""
    # msgspec builds dataclasses by itself and never asks a hook how to read one from text.
    if isinstance(value, list):
        return [_with_entity_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: EntityId.parse(item)
        if name.endswith("_id") and isinstance(item, str)
        else _with_entity_ids(item)
        for name, item in value.items()
    }


def parse_config(text: str, file_type: type[T], *, where: str) -> T:
    """Read a configuration.

    Args:
        text: TOML.
        file_type: DsrspFile, CemFile or DccSimFile.
        where: what to call the text in errors, a path for instance.

    Raises:
        ConfigError: not TOML, a field is missing, unknown or of the wrong kind.
    """
    try:
        return msgspec.convert(_with_entity_ids(tomllib.loads(text)), file_type)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}") from None
    except BuildError as error:
        raise ConfigError(f"{where}: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{where}: {error} ($ is the whole file); "
            "print a commented example with --example-config"
        ) from None


def load_config(path: Path, file_type: type[T]) -> T:
    """Read a configuration file, see `parse_config`.

    Raises:
        ConfigError: also when the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error}") from None
    return parse_config(text, file_type, where=str(path))
