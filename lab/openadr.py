"""Starts the OpenADR faces of the gateway daemons from their files' table [openadr]."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import msgspec

import cem
import cem.openadr
import dsrsp
import dsrsp.openadr

T = TypeVar("T", cem.openadr.OpenAdrConfig, dsrsp.openadr.OpenAdrConfig)


@contextlib.asynccontextmanager
async def openadr_vtn(
    config: cem.openadr.OpenAdrConfig | None,
    base: Path,
    gateway: cem.Gateway,
    who: cem.CemConfig,
) -> AsyncIterator[cem.openadr.OpenAdrVtn | None]:
    """Run the CEM's OpenADR face, if there is one.

    Args:
        config: the table [openadr]; None: no face.
        base: the folder that relative paths start from.
        gateway: the open gateway.
        who: its settings.
    """
    if config is None:
        yield None
        return
    async with cem.openadr.OpenAdrVtn(
        _with_paths(config, base, ("certificate", "key", "ven_ca")),
        gateway,
        device=str(who.device_id),
        vtn_id=str(who.supplier_id),
    ) as face:
        yield face


@contextlib.asynccontextmanager
async def openadr_vens(
    config: dsrsp.openadr.OpenAdrConfig | None, base: Path, gateway: dsrsp.Gateway
) -> AsyncIterator[dsrsp.openadr.OpenAdrVens | None]:
    """Run the DSRSP's OpenADR face, if there is one; arguments as of `openadr_vtn`."""
    if config is None:
        yield None
        return
    names = ("vtn_ca", "certificates", "push_certificate", "push_key", "push_ca")
    async with dsrsp.openadr.OpenAdrVens(_with_paths(config, base, names), gateway) as face:
        yield face


def _with_paths(config: T, base: Path, names: tuple[str, ...]) -> T:
    """Return the settings with paths that start from the folder of the file."""
    changes = {
        name: str(base / path) for name in names if (path := getattr(config, name)) is not None
    }
    if config.state != ":memory:":
        changes["state"] = str(base / config.state)
    return msgspec.structs.replace(config, **changes)
