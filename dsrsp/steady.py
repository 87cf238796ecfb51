"""The clock of `gbcs.steady`, under the name that the tunnel's end imports it by."""

from gbcs.steady import SteadyClock

__all__ = ["SteadyClock"]
