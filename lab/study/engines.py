"""The engines by name, each loaded when it is used."""

from __future__ import annotations

from lab.study.engine import Engine
from lab.study.errors import EngineError
from lab.study.fit import FittedTimes
from lab.study.parameters import EngineName


def make_engine(name: EngineName, fitted: FittedTimes | None = None) -> Engine:
    """Return an engine.

    Args:
        name: which.
        fitted: times for the fleet engine; None: the profile's.

    Raises:
        EngineError: what it needs is not installed.
    """
    try:
        match name:
            case "fleet":
                from lab.study.fleet import FleetEngine

                return FleetEngine(fitted)
            case "virtual":
                from lab.study.virtual import VirtualEngine

                return VirtualEngine()
            case "live":
                from lab.study.live import LiveEngine

                return LiveEngine()
    except ModuleNotFoundError as missing:
        raise EngineError(
            f"the engine {name!r} needs the package {missing.name!r}: install the extra 'study'"
        ) from None
