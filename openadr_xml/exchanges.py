"""Which payload of a VEN is answered where, and what a VTN says by itself: tables for both faces.

Source: OpenADR 2.0b profile, sections 8 and 9 (message exchanges); the split is this project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ANSWERS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "oadrCreatePartyRegistration": frozenset({"oadrCreatedPartyRegistration"}),
        "oadrCancelPartyRegistration": frozenset({"oadrCanceledPartyRegistration"}),
        "oadrRegisterReport": frozenset({"oadrRegisteredReport"}),
        "oadrCreateReport": frozenset({"oadrCreatedReport"}),
        "oadrCancelReport": frozenset({"oadrCanceledReport"}),
        "oadrRequestEvent": frozenset({"oadrDistributeEvent"}),
        "oadrCreateOpt": frozenset({"oadrCreatedOpt"}),
        "oadrCancelOpt": frozenset({"oadrCanceledOpt"}),
    }
)
"""Requests of a VEN that only the VTN can answer, each with the payloads that do; or an
oadrResponse."""

TOLD_AT_ONCE: Final = frozenset(
    {
        "oadrUpdateReport",
        "oadrCreatedEvent",
        "oadrCreatedReport",
        "oadrCanceledReport",
        "oadrRegisteredReport",
        "oadrUpdatedReport",
        "oadrCanceledPartyRegistration",
    }
)
"""Messages of a VEN whose answer says no more than that they came: they cross, and the VEN has been
answered before; only another answer of the VTN crosses."""

FROM_VTN: Final = frozenset(
    {
        "oadrDistributeEvent",
        "oadrCreateReport",
        "oadrCancelReport",
        "oadrRegisterReport",
        "oadrUpdateReport",
        "oadrCancelPartyRegistration",
    }
)
"""Messages of a VTN that a VEN fetches by polling, or has pushed, and has to see."""
