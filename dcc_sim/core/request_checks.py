"""The checks on a parsed request, each its own unit, in the order of `dcc_sim.core.checks.CHECKS`.

A check takes the submission, the shared state and the keys; it returns nothing or raises
RequestRefused with its name and a reason that teaches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from dcc_sim.core.checks import Check
from dcc_sim.core.counters import CounterStanding
from dcc_sim.core.keys import Keys
from dcc_sim.core.services import (
    COMMAND_VARIANTS,
    COMMANDABLE_STATUSES,
    ELIGIBLE_DEVICE_TYPES,
    ELIGIBLE_ROLES,
    OFFERED,
    READ_INVENTORY,
    RETURN_LOCAL_COMMAND_RESPONSE,
    SCHEMA_VERSIONS,
    SERVICE_OF_COMMAND_VARIANT,
    SIGNED_PRE_COMMAND_VARIANTS,
    TRANSFORM_VARIANT,
    UPDATE_INVENTORY,
    Service,
)
from dcc_sim.core.state import State, utc
from dcc_sim.errors import RequestRefused
from dcc_sim.ports import CommandRow, CommandState
from gbcs.certificates import Role
from gbcs.crypto import verify_message
from gbcs.duis import (
    OtherBody,
    ParsedRequest,
    ReadInventory,
    Request,
    ReturnLocalCommandResponse,
    SignedPreCommandBody,
    UpdateAlcDescriptions,
    UpdateInventory,
)
from gbcs.errors import (
    BuildError,
    CertificateError,
    FormatError,
    SignatureInvalid,
    XmlSignatureInvalid,
)
from gbcs.messages import PreCommand, SignedPreCommand, parse_untrusted


@dataclass(frozen=True)
class Submission:
    """A request that could be read, and where and when it came in.

    Attributes:
        service: the address it was sent to.
        parsed: the request with its signature.
        now: seconds since 1970.
    """

    service: Service
    parsed: ParsedRequest
    now: float

    @property
    def request(self) -> Request:
        """The request itself."""
        return self.parsed.message

    @cached_property
    def pre_command(self) -> PreCommand:
        """STRUCTURE: the pre-command that it asks for.

        Raises:
            RequestRefused: the body is no set of labels that a command can carry.
        """
        return transform(self.request)


RequestCheck: TypeAlias = Callable[[Submission, State, Keys], None]


def check_schema_version(submission: Submission, _state: State, _keys: Keys) -> None:
    """SCHEMA_VERSION: the DCC speaks it."""
    version = submission.request.schema_version
    if version not in SCHEMA_VERSIONS:
        raise RequestRefused(
            Check.SCHEMA_VERSION,
            f"schema version {version}: this DCC takes {', '.join(SCHEMA_VERSIONS)}",
        )


def check_signature(submission: Submission, _state: State, keys: Keys) -> None:
    """XML_SIGNATURE, CERTIFICATE: who signed is the originator, and it is a user's XML key."""
    originator = submission.request.originator_id
    try:
        certificate = submission.parsed.verify(
            keys.keystore, role=Role.XML_SIGNING_USER, at=utc(submission.now)
        )
        keys.check_not_revoked(certificate)
    except XmlSignatureInvalid as error:
        raise RequestRefused(Check.XML_SIGNATURE, str(error)) from None
    except CertificateError as error:
        raise RequestRefused(Check.CERTIFICATE, str(error)) from None
    if certificate.entity_id != originator:
        raise RequestRefused(
            Check.CERTIFICATE,
            f"signed by {certificate.entity_id}, but the RequestID's originator is {originator}",
        )


def check_user(submission: Submission, state: State, _keys: Keys) -> None:
    """USER: the originator is known."""
    originator = submission.request.originator_id
    if originator not in state.users:
        raise RequestRefused(
            Check.USER, f"{originator} is no user of this DCC: add it to `users` in the settings"
        )


def check_role(submission: Submission, state: State, _keys: Keys) -> None:
    """ROLE: the user's role may send the service."""
    variant = submission.request.service_reference_variant
    user = state.users[submission.request.originator_id]
    eligible = ELIGIBLE_ROLES.get(variant)
    if eligible is not None and user.role not in eligible:
        raise RequestRefused(
            Check.ROLE,
            f"{variant} needs the role {' or '.join(sorted(eligible))}; "
            f"{user.entity_id} is a {user.role}",
        )


def check_device_known(submission: Submission, state: State, _keys: Keys) -> None:
    """DEVICE_KNOWN: the target is in the inventory, unless the request is for no device."""
    request = submission.request
    if SERVICE_OF_COMMAND_VARIANT.get(request.command_variant) is Service.NON_DEVICE:
        return
    if request.target_id not in state.devices:
        raise RequestRefused(
            Check.DEVICE_KNOWN, f"{request.target_id} is not in the inventory of devices"
        )


def check_device_authorised(submission: Submission, state: State, _keys: Keys) -> None:
    """DEVICE_AUTHORISED: the device is this supplier's, where the inventory says whose it is."""
    device = state.devices.get(submission.request.target_id)
    if device is None or device.supplier_id is None:
        return
    if device.supplier_id != submission.request.originator_id:
        raise RequestRefused(
            Check.DEVICE_AUTHORISED,
            f"{device.entity_id} is a device of {device.supplier_id}, "
            f"not of {submission.request.originator_id}",
        )


def check_device_status(submission: Submission, state: State, _keys: Keys) -> None:
    """DEVICE_STATUS: the device is in use."""
    device = state.devices.get(submission.request.target_id)
    if device is not None and device.status not in COMMANDABLE_STATUSES:
        raise RequestRefused(
            Check.DEVICE_STATUS,
            f"{device.entity_id} is {device.status}; "
            f"commands go to {' or '.join(sorted(COMMANDABLE_STATUSES))} devices",
        )


def check_device_type(submission: Submission, state: State, _keys: Keys) -> None:
    """DEVICE_TYPE: the device can do what the service asks."""
    request = submission.request
    device = state.devices.get(request.target_id)
    eligible = ELIGIBLE_DEVICE_TYPES.get(request.service_reference_variant)
    if device is not None and eligible is not None and device.device_type not in eligible:
        raise RequestRefused(
            Check.DEVICE_TYPE,
            f"{request.service_reference_variant} is for {' or '.join(sorted(eligible))}; "
            f"{device.entity_id} is a {device.device_type}",
        )


def check_command_variant(submission: Submission, _state: State, _keys: Keys) -> None:
    """COMMAND_VARIANT: the service has this variant, and the body is the variant's."""
    request = submission.request
    allowed = COMMAND_VARIANTS.get(request.service_reference_variant, frozenset())
    if request.command_variant not in allowed:
        raise RequestRefused(
            Check.COMMAND_VARIANT,
            f"{request.service_reference_variant} has no command variant "
            f"{request.command_variant}; it has {', '.join(map(str, sorted(allowed))) or 'none'}",
        )
    carries_signed = isinstance(request.body, SignedPreCommandBody)
    wants_signed = request.command_variant in SIGNED_PRE_COMMAND_VARIANTS
    if carries_signed != wants_signed and not _is_not_offered(request.body):
        raise RequestRefused(
            Check.COMMAND_VARIANT,
            f"command variant {request.command_variant} "
            f"{'needs' if wants_signed else 'must not have'} a SignedPreCommand in its body",
        )


def check_address(submission: Submission, _state: State, _keys: Keys) -> None:
    """ADDRESS: the variant was sent where it belongs."""
    variant = submission.request.command_variant
    right = SERVICE_OF_COMMAND_VARIANT[variant]
    if right is not submission.service:
        raise RequestRefused(
            Check.ADDRESS,
            f"command variant {variant} belongs to {right.value}, not {submission.service.value}",
        )


def check_offered(submission: Submission, _state: State, _keys: Keys) -> None:
    """OFFERED: the simulator does this service, and this part of it."""
    variant = submission.request.service_reference_variant
    body = submission.request.body
    if variant not in OFFERED:
        raise RequestRefused(
            Check.OFFERED,
            f"service {variant} is not simulated; {', '.join(OFFERED)} are",
        )
    if isinstance(body, OtherBody) and _is_not_offered(body):
        raise RequestRefused(Check.OFFERED, _NOT_OFFERED[body.element])
    if isinstance(body, UpdateInventory) and body.status is None:
        raise RequestRefused(
            Check.OFFERED, f"{body.change} is not simulated; a change of a device's status is"
        )


_NOT_OFFERED = {
    "FirstInSequence": "sequenced requests are not simulated: send the requests one by one",
    "PrecedingServiceRequestID": "sequenced requests are not simulated: send the requests one by "
    "one",
    "ExecutionDateTime": "future-dated commands are not simulated, and 6.14.1 has none: send it "
    "when it is due",
}


def _is_not_offered(body: object) -> bool:
    return isinstance(body, OtherBody) and body.element in _NOT_OFFERED


_NON_DEVICE_BODIES = {
    READ_INVENTORY: ReadInventory,
    UPDATE_INVENTORY: UpdateInventory,
    RETURN_LOCAL_COMMAND_RESPONSE: ReturnLocalCommandResponse,
}


def check_structure(submission: Submission, _state: State, _keys: Keys) -> None:
    """STRUCTURE: the body is the service's; what is to be transformed fits a command."""
    request = submission.request
    if request.command_variant == TRANSFORM_VARIANT:
        # Making it is the check; it is kept.
        _ = submission.pre_command
    elif submission.service is Service.NON_DEVICE:
        expected = _NON_DEVICE_BODIES[request.service_reference_variant]
        if not isinstance(request.body, expected):
            raise RequestRefused(
                Check.STRUCTURE,
                f"{request.service_reference_variant} needs {expected.__name__} in its body",
            )


def check_counter(submission: Submission, state: State, _keys: Keys) -> None:
    """COUNTER_STALE, COUNTER_USED, ALREADY_ACCEPTED: each counter makes one command."""
    request = submission.request
    counter = request.originator_counter
    window = state.window(request.originator_id)
    row = state.command(request.originator_id, counter)
    match window.standing(counter):
        case CounterStanding.STALE if row is None:
            raise RequestRefused(
                Check.COUNTER_STALE,
                f"counter {counter} is too old: {request.originator_id} is at "
                f"{window.floor} or above",
            )
        case CounterStanding.NEW:
            return
        case _:
            if submission.service is Service.NON_DEVICE:
                raise _used_before(request)
            match submission.service:
                case Service.NON_DEVICE:
                    raise _used_before(request)
                case Service.TRANSFORM:
                    _check_repeated_transform(submission, row)
                case Service.SEND_COMMAND:
                    _check_not_accepted(request, row)


def _check_not_accepted(request: Request, row: CommandRow | None) -> None:
    if row is None or row.state is not CommandState.TRANSFORMED:
        raise RequestRefused(
            Check.ALREADY_ACCEPTED,
            f"the signed pre-command of {request.request_id} was already accepted",
        )


def _check_repeated_transform(submission: Submission, row: CommandRow | None) -> None:
    """A transform may be asked for again, word for word, until its pre-command comes signed."""
    if (
        row is None
        or row.state is not CommandState.TRANSFORMED
        or submission.pre_command.to_bytes() != row.pre_command
    ):
        raise _used_before(submission.request)


def _used_before(request: Request) -> RequestRefused:
    return RequestRefused(
        Check.COUNTER_USED,
        f"counter {request.originator_counter} of {request.originator_id} was used before; "
        "each request needs a higher one",
    )


def check_correlation(submission: Submission, signed: SignedPreCommand, state: State) -> None:
    """NOT_TRANSFORMED, CORRELATION: what was signed is, octet for octet, what the DCC had made."""
    request = submission.request
    row = state.command(request.originator_id, request.originator_counter)
    if row is None:
        raise RequestRefused(
            Check.NOT_TRANSFORMED,
            f"no pre-command was made for {request.request_id}: send it to "
            f"{Service.TRANSFORM.value} first",
        )
    if row.device != request.target_id or signed.pre_command.to_bytes() != row.pre_command:
        raise RequestRefused(
            Check.CORRELATION, f"this is not the pre-command that was made for {row.request_id}"
        )


def check_gbcs_signature(submission: Submission, signed: SignedPreCommand, keys: Keys) -> None:
    """GBCS_SIGNATURE: the supplier's digital-signature key signed it."""
    originator = submission.request.originator_id
    try:
        verify_message(signed, keys.supplier_signature_key(originator, submission.now))
    except (SignatureInvalid, CertificateError) as error:
        raise RequestRefused(Check.GBCS_SIGNATURE, str(error)) from None


ALL_REQUESTS: tuple[RequestCheck, ...] = (
    check_schema_version,
    check_signature,
    check_user,
    check_role,
    check_device_known,
    check_device_authorised,
    check_device_status,
    check_device_type,
    check_command_variant,
    check_address,
    check_offered,
    check_structure,
    check_counter,
)
"""What every request must pass, in this order; a signed pre-command then has its own checks."""


def transform(request: Request) -> PreCommand:
    """STRUCTURE: make the pre-command that a request asks for.

    Raises:
        RequestRefused: the body is no set of labels that a command can carry.
    """
    if not isinstance(request.body, UpdateAlcDescriptions):
        raise RequestRefused(
            Check.STRUCTURE,
            "6.14.1 to transform needs UpdateDeviceConfigurationALCDescriptions in its body",
        )
    try:
        return PreCommand(
            originator_id=request.originator_id,
            target_id=request.target_id,
            originator_counter=request.originator_counter,
            labels=request.body.labels,
        )
    except BuildError as error:
        raise RequestRefused(Check.STRUCTURE, str(error)) from None


def signed_pre_command(request: Request) -> SignedPreCommand:
    """GBCS_FORMAT: read the signed pre-command in a request's body.

    Raises:
        RequestRefused: there is none, or it is malformed.
    """
    if not isinstance(request.body, SignedPreCommandBody):
        raise RequestRefused(Check.GBCS_FORMAT, "the body has no SignedPreCommand")
    try:
        message = parse_untrusted(request.body.gbcs_payload)
    except FormatError as error:
        raise RequestRefused(Check.GBCS_FORMAT, str(error)) from None
    if not isinstance(message, SignedPreCommand):
        raise RequestRefused(
            Check.GBCS_FORMAT,
            f"the payload is a {type(message).__name__}, not a SignedPreCommand: "
            "sign the pre-command and append 40 and the signature",
        )
    return message
