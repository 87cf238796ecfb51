"""What a VEN may not say, or not here: the face's refusals."""

from __future__ import annotations

from cem.openadr.config import OpenAdrConfig
from cem.openadr.core.state import Binding
from openadr_xml import ANSWERS, TOLD_AT_ONCE, Payload, building


def refuse(payload: Payload, code: int, why: str) -> bytes:
    """Return an oadrResponse that refuses a payload."""
    return building.response(code, why, request_id=payload.correlation, ven_id=payload.ven_id)


def refusal_of(
    payload: Payload,
    service: str,
    fingerprint: str,
    *,
    binding: Binding | None,
    config: OpenAdrConfig,
) -> bytes | None:
    """Return what to say to a payload that may not come from this VEN, or not to here.

    Args:
        payload: it.
        service: the address at which it was posted.
        fingerprint: SHA-256 of the VEN's certificate in hexadecimal, "" without.
        binding: the VEN that is registered.
        config: the settings.
    """
    kind = payload.kind
    served = kind in ANSWERS or kind in TOLD_AT_ONCE
    if not served and kind not in ("oadrPoll", "oadrQueryRegistration", "oadrResponse"):
        return refuse(payload, building.COMPLIANCE_ERROR, f"{kind} is not for a VTN")
    if kind != "oadrResponse" and service != payload.service:
        return refuse(payload, building.COMPLIANCE_ERROR, f"{kind} goes to {payload.service}")
    if binding is not None and binding.fingerprint not in ("", fingerprint):
        return refuse(
            payload,
            building.NOT_AUTHORIZED,
            "another certificate than that of the registered VEN",
        )
    if kind == "oadrQueryRegistration":
        return None
    expected = config.ven_id or (binding.ven_id if binding is not None else "")
    if expected and payload.ven_id not in ("", expected):
        return refuse(
            payload, building.INVALID_ID, "this venID is not that of the VEN registered here"
        )
    if kind == "oadrCreatePartyRegistration":
        return _refusal_of_registration(payload, binding, config)
    return _refusal_of_stranger(payload, binding)


def _refusal_of_registration(
    payload: Payload, binding: Binding | None, config: OpenAdrConfig
) -> bytes | None:
    if binding is not None and payload.registration_id not in ("", binding.registration_id):
        return refuse(payload, building.INVALID_ID, "this registrationID is not the present one")
    if not payload.pull_model and not config.push:
        return refuse(
            payload,
            building.COMPLIANCE_ERROR,
            "only the PULL model is served here: set push = true for the PUSH model",
        )
    return None


def _refusal_of_stranger(payload: Payload, binding: Binding | None) -> bytes | None:
    if binding is None:
        if payload.ven_id:
            return building.request_reregistration(payload.ven_id)
        return refuse(payload, building.NOT_AUTHORIZED, "register first")
    names_itself = ("oadrPoll", "oadrRequestEvent", "oadrCreatedEvent")
    if not payload.ven_id and payload.kind in names_itself:
        return refuse(payload, building.INVALID_ID, "the venID is missing")
    return None
