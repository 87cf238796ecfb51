"""openleadr's own options for mutual TLS, from a folder of `lab.tls_files`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def vtn_options(folder: Path) -> dict[str, Any]:
    """Return what makes a DemoVtn serve HTTPS and ask for the VEN's certificate."""
    return {
        "http_cert": str(folder / "vtn.pem"),
        "http_key": str(folder / "vtn.key"),
        "http_ca_file": str(folder / "ca.pem"),
        "verify_message_signatures": False,  # TLS is all: XML signatures are another layer
    }


def ven_options(folder: Path, name: str = "ven") -> dict[str, Any]:
    """Return what makes a DemoVen show its certificate and check the VTN's.

    Args:
        folder: has ca.pem, and certificate and key of the VEN.
        name: how their names begin.
    """
    return {
        "cert": str(folder / f"{name}.pem"),
        "key": str(folder / f"{name}.key"),
        "ca_file": str(folder / "ca.pem"),
        "disable_signature": True,
        "show_fingerprint": False,
    }
