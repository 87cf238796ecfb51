"""Configuration files of the three daemons: TOML, checked field by field before anything starts.

Relative paths in a file are relative to the folder of that file.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

import cem.openadr
import dsrsp.openadr
from cem import CemConfig
from dcc_sim import DccSimConfig
from dsrsp import DsrspConfig
from gbcs import EntityId
from gbcs.errors import BuildError
from lab.errors import ConfigError
from lab.signing_service import SigningConfig

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
    openadr: dsrsp.openadr.OpenAdrConfig | None = None
    journal: str | None = None


class CemFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of ``smtunnel cem``."""

    gateway: CemConfig
    control: ControlConfig
    openadr: cem.openadr.OpenAdrConfig | None = None
    journal: str | None = None


class DccSimFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of ``smtunnel dcc-sim``.

    ``admin_token_file`` switches the admin interface on: it holds the secret that every caller
    must show and is made, readable by its owner alone, when it is missing.
    """

    simulator: DccSimConfig
    admin_token_file: str | None = None
    journal: str | None = None


_COMMANDS: dict[type, str] = {
    DsrspFile: "smtunnel dsrsp",
    CemFile: "smtunnel cem",
    DccSimFile: "smtunnel dcc-sim",
    SigningConfig: "smtunnel signing-service",
}


def _decode_hook(wanted: type, value: Any) -> Any:
    if wanted is not EntityId:
        raise TypeError(f"no way to read a {wanted.__name__} from a configuration")
    if not isinstance(value, str):
        raise ValueError(f"expected an EUI-64 as text, got {value!r}")
    try:
        return EntityId.parse(value)
    except BuildError as error:
        raise ValueError(str(error)) from None


def _taught(error: str, file_type: type) -> str:
    """Add to an unknown field what was probably meant: another spelling, or another file."""
    found = re.search(r"unknown field `([^`]*)`(?: - at `\$\.([^`]*)`)?", error)
    if found is None:
        return error
    name, place = found[1], re.sub(r"\[[^\]]*\]", "", found[2] or "")
    near = difflib.get_close_matches(name, _settings_at(file_type, place), n=1)
    if near:
        return f"{error}: did you mean `{near[0]}`?"
    for other, command in _COMMANDS.items():
        if other is not file_type and name in _settings_at(other, place):
            return f"{error}: it belongs in the file of `{command}`"
    return error


def _settings_at(kind: Any, place: str) -> list[str]:
    """Return the names that may stand in a table, by its place in the file; none if unknown."""
    for part in place.split(".") if place else []:
        struct = _struct_in(kind)
        fields = () if struct is None else msgspec.structs.fields(struct)
        kind = next((field.type for field in fields if field.encode_name == part), None)
    struct = _struct_in(kind)
    return [] if struct is None else [f.encode_name for f in msgspec.structs.fields(struct)]


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """Return the table that an annotation such as ``list[X]`` or ``X | None`` allows."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next(filter(None, map(_struct_in, get_args(kind))), None)


def parse_config(text: str, file_type: type[T], *, where: str) -> T:
    """Read a configuration.

    Args:
        text: TOML.
        file_type: DsrspFile, CemFile, DccSimFile or SigningConfig.
        where: what to call the text in errors, a path for instance.

    Raises:
        ConfigError: not TOML, a field is missing, unknown or of the wrong kind.
    """
    try:
        return msgspec.convert(tomllib.loads(text), file_type, dec_hook=_decode_hook)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{where}: {_taught(str(error), file_type)} ($ is the whole file); "
            f"`{_COMMANDS[file_type]} --example-config` prints a commented example"
        ) from None
    except (ValueError, RecursionError) as error:
        # tomllib also lets numbers of too many digits and too deep nesting pass as they are.
        raise ConfigError(f"{where}: not valid TOML: {error}") from None


def load_config(path: Path, file_type: type[T]) -> T:
    """Read a configuration file, see `parse_config`.

    Raises:
        ConfigError: also when the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such configuration here: go to its folder, or make one with "
            "--example-config"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot read the configuration: {reason}") from None
    return parse_config(text, file_type, where=str(path))
