"""Network profiles as files: those that come with the package, and a user's own."""

from __future__ import annotations

from pathlib import Path

from dcc_sim.core.network import NetworkProfile, parse_profile
from dcc_sim.errors import ConfigError

_FOLDER = Path(__file__).resolve().parent / "profiles"


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def is_profile_path(network: str) -> bool:
    """Say whether a text names a file, not a profile that comes with the package."""
    return network.endswith(".toml") or "/" in network


def load_profile(network: str) -> NetworkProfile:
    """Read a profile.

    Args:
        network: the name of a profile that comes with the package, or the path of a TOML file.

    Raises:
        ConfigError: there is none of this name, the file cannot be read, or is no profile.
    """
    if is_profile_path(network):
        path = Path(network)
    else:
        path = _FOLDER / f"{network}.toml"
        if network not in profile_names():
            raise ConfigError(
                f"network {network!r}: no such profile; there are {', '.join(profile_names())}, "
                "or give the path of a .toml file"
            )

    def read_trace(name: str) -> str:
        return _read(path.parent / name)

    return parse_profile(_read(path), where=str(path), read_trace=read_trace)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
