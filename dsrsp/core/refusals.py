"""What a refusal by the DCC or by a device means, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gbcs.duis import RESPONSE_CODES, DccAlertCode
from gbcs.entity_id import EntityId
from gbcs.messages import DataAccessResult

_ADVICE: Final = {
    "E1": "register {supplier} with the DCC as an electricity import supplier, or set supplier_id "
    "to an identity that is registered",
    "E2": "6.14.1 needs an electricity import supplier: set supplier_id to an import supplier's "
    "EUI; a load controller may not send it",
    "E3": "the DCC has suspended or not yet activated {supplier}: ask the DCC",
    "E4": "{supplier} must be the responsible import supplier of {device} now; after a change of "
    "supplier the new supplier must send",
    "E5": "{device} must be commissioned in the DCC's inventory before it takes commands",
    "E11": "{device} is in the DCC's inventory as a type that has no auxiliary controller labels: "
    "a CEM must stand there as a type that takes 6.14.1 (ESME, as assumed)",
    "E12": "the DCC does not take this command variant: compare schema_version with the DCC's",
    "E13": "dcc_url leads to the wrong service: it must end before /api/v1",
    "E17": "6.14.1 was refused for local delivery, which the DSRSP never asks for: ask the DCC",
    "E19": "add {device} to the DCC's inventory, or correct the EUI",
    "E20": "the DCC cannot reach {device}: check that it is connected to its communications hub, "
    "then send the message again",
    "E21": "{device} got the command or was tried, but did not answer in time: whether it has the "
    "fragment is not known; send the message again when it is reachable",
    "E30": "the DCC gave the command up: send the message again when {device} is reachable",
    "E31": "the DCC gave the command up: send the message again when {device} is reachable",
    "E41": "the DCC knows no pre-command for this counter: it has lost its state, or dcc_url leads "
    "to another DCC than before: send the message again",
    "E42": "what was signed for {device} is not what this DCC had made: is another system sending "
    "as {supplier} under the same counters? Give each its own identity",
    "E44": "the DCC cannot read what was signed for {device}: compare schema_version, then ask the "
    "DCC",
    "E47": "the DCC has this command for {device} already: another system sends as {supplier}, or "
    "the state is an old copy; set counter_floor above all counters ever used",
    "E50": "somebody discarded it from the DCC's quarantine: set fragments_per_window below "
    "{supplier}'s anomaly detection threshold, then send the message again",
    "E40": "the DCC has seen a higher counter of {supplier}: if another system sends as "
    "{supplier}, give each its own identity; if the state is an old copy, set counter_floor above "
    "all counters ever used",
    "E43": "the digital-signature key of {supplier} is not the one whose certificate the DCC has",
    "E48": "counter used before: another system sends as {supplier}, or the state is an old copy; "
    "set counter_floor above all counters ever used",
    "E63": "the XML-signing certificate is not one that the DCC takes for {supplier}: check its "
    "validity and its EUI",
    "E64": "the XML-signing key does not fit the certificate that the DCC has for {supplier}",
    "N12": "check that {device} is connected to its communications hub, then send again",
    "N13": "whether {device} has the fragment is not known; send the message again",
    "E65": "the DCC does not read our XML: compare schema_version with what the DCC accepts",
    "E100": "the DCC itself is in trouble: send the message again later",
}
HEALING_CODES: Final = frozenset(
    {"E20", "E21", "E100", DccAlertCode.COMMAND_NOT_DELIVERED, DccAlertCode.COMMAND_NOT_ANSWERED}
)
"""Codes after which a new request for the same fragment may do better. Assumed, as the codes are:
all others stand until somebody changes something at the DCC or here."""

UNREAD_CODES: Final = frozenset({"E64", "E65"})
"""What the DCC could not read, or whose signature does not hold as it came."""

_NO_ADVICE: Final = "look the code up in the DUIS specification, or ask the DCC's service desk"

_ALERTS: Final = {
    DccAlertCode.COMMAND_NOT_DELIVERED: "the command could not be delivered",
    DccAlertCode.COMMAND_NOT_ANSWERED: "the device did not answer the command",
}

_RESULTS: Final = {
    DataAccessResult.HARDWARE_FAULT: "hardware fault",
    DataAccessResult.TEMPORARY_FAILURE: "temporary failure: try again later",
    DataAccessResult.READ_WRITE_DENIED: "not allowed: the device does not take labels from this "
    "supplier",
    DataAccessResult.OTHER_REASON: "other reason: the CEM has ended the message undelivered",
}


def explain_code(
    code: str, *, supplier: EntityId, device: EntityId, have: str | None = None
) -> str:
    """Say what a DUIS response code means and what to do.

    Args:
        code: as the DCC sent it, for instance "E2".
        supplier: our identity in the request.
        device: the request's target.
        have: what we know of the certificate of ours that the code concerns.
    """
    advice = _ADVICE.get(code, _NO_ADVICE).format(supplier=supplier, device=device)
    facts = "" if have is None else f" ({have})"
    return f"the DCC refused with {code}, {_meaning(code)}: {advice}{facts}"


def _meaning(code: str) -> str:
    row = RESPONSE_CODES.get(code)
    if row is not None:
        return f"{row.meaning} ({row.standing.value})"
    for alert, meaning in _ALERTS.items():
        if code == alert:
            return f"{meaning} (assumed)"
    return "a code that is not in the DUIS schema"


def explain_results(results: Sequence[int], labels: int) -> str:
    """Say what a device's results mean, when they are not all success.

    Args:
        results: the data-access-results as they came.
        labels: how many labels were sent.
    """
    if len(results) != labels:
        return f"the device answered with {len(results)} results for {labels} labels"
    failed = [
        f"label {number}: {result:02X} {_result_name(result)}"
        for number, result in enumerate(results, 1)
        if result
    ]
    return f"the device did not take the fragment: {', '.join(failed)}"


def _result_name(result: int) -> str:
    try:
        known = DataAccessResult(result)
    except ValueError:
        return "no result that DLMS/COSEM knows"
    return _RESULTS.get(known, known.name.lower().replace("_", " "))
