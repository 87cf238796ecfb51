"""What stands in a GBCS message, octet by octet, and whether its protection holds."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from gbcs.certificates import Certificate, KeyUsage, Role
from gbcs.crypto import shared_secret, verify_mac, verify_message
from gbcs.date_time import GbcsDateTime
from gbcs.entity_id import EntityId
from gbcs.errors import (
    CertificateNotFound,
    CertificateRefused,
    MacInvalid,
    PrivateKeyNotFound,
    SignatureInvalid,
)
from gbcs.keystore import KeyStore
from gbcs.layouts import FIRST_LABEL_OBIS, Part
from gbcs.messages import (
    ALERT_CODE_8F88,
    MESSAGE_CODE_ECS46A,
    MESSAGE_CODE_ECS200,
    Alert,
    Command,
    CraFlag,
    DataAccessResult,
    Message,
    PreCommand,
    Response,
    SignedPreCommand,
    layout_of,
    parse_untrusted,
)
from gbcs.route_2b import MAX_MESSAGE_OCTETS as MAX_ROUTE_2B_OCTETS
from gbcs.route_2b import (
    MESSAGE_CODE_ROUTE_2B,
    Route2bMessage,
    is_route_2b,
    parse_untrusted_route_2b,
    parts_of,
    verify_route_2b,
)


class Verdict(enum.Enum):
    """What a check came to."""

    HOLDS = "holds"
    FAILS = "fails"
    OUT_OF_TIME = "not valid at that time"
    """A certificate that was sound when it was issued and is not valid at the moment asked for."""
    CANNOT_BE_CHECKED = "cannot be checked"


@dataclass(frozen=True, slots=True)
class Field:
    """One part of the message.

    ``offset`` and ``octets`` say where it stands and what stands there, ``title``
    names it, ``meaning`` reads it (empty for constants).
    """

    offset: int
    octets: bytes
    title: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Check:
    """One check: ``what`` was checked, the ``verdict``, and with which certificate or why not."""

    what: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that can be said of one message."""

    message: Message | Route2bMessage
    title: str
    fields: tuple[Field, ...]
    checks: tuple[Check, ...] = field(default=())

    def holds(self, *, validity_counts: bool = True) -> bool:
        """Tell whether nothing that could be checked failed.

        Args:
            validity_counts: whether a certificate that is not valid at the moment asked for is a
                failure too.
        """
        bad = {Verdict.FAILS, Verdict.OUT_OF_TIME} if validity_counts else {Verdict.FAILS}
        return not any(check.verdict in bad for check in self.checks)


def explain(octets: bytes, keystore: KeyStore | None, at: datetime) -> Inspection:
    """Take a message apart and check what the keys at hand allow.

    The signature needs the originator's digital-signature certificate; the MAC needs the
    key-agreement certificates of device and access control broker, and the private key of one of
    them.

    Args:
        octets: one whole message.
        keystore: certificates and keys; None to check nothing.
        at: the moment at which certificates must be valid, aware.

    Returns:
        Fields with offsets, and checks.

    Raises:
        FormatError: not a message that we know.
    """
    message: Message | Route2bMessage
    if is_route_2b(octets):
        message = parse_untrusted_route_2b(octets, max_message_octets=MAX_ROUTE_2B_OCTETS)
        parts = parts_of(message)
    else:
        message = parse_untrusted(octets)
        parts = tuple(layout_of(octets).read_strictly(octets).parts)
    return Inspection(
        message=message,
        title=_TITLES[type(message)],
        fields=tuple(
            Field(part.offset, part.octets, part.title, _meaning(part, keystore)) for part in parts
        ),
        checks=_checks(message, keystore, at),
    )


_TITLES: Mapping[type, str] = {
    PreCommand: "ECS46a pre-command (unsigned)",
    SignedPreCommand: "ECS46a signed pre-command",
    Command: "ECS46a command",
    Response: "ECS46a response",
    Alert: "ECS200 alert",
    Route2bMessage: "route 2b message",
}


def _checks(
    message: Message | Route2bMessage, keystore: KeyStore | None, at: datetime
) -> tuple[Check, ...]:
    if isinstance(message, PreCommand):
        return ()
    if keystore is None:
        no_keys = "no certificates and keys were given"
        names = ("signature", "MAC") if isinstance(message, Command) else ("signature",)
        return tuple(Check(name, Verdict.CANNOT_BE_CHECKED, no_keys) for name in names)
    checks = _signature_checks(message, keystore, at)
    if isinstance(message, Command):
        checks += _mac_checks(message, keystore, at)
    return tuple(checks)


def _signature_checks(
    message: SignedPreCommand | Command | Response | Alert | Route2bMessage,
    keystore: KeyStore,
    at: datetime,
) -> list[Check]:
    what = "signature"
    role: Role | None
    if isinstance(message, SignedPreCommand | Command):
        originator, role = message.pre_command.originator_id, Role.SUPPLIER
    else:
        originator = message.originator_id
        from_supplier = isinstance(message, Route2bMessage) and message.cra_flag is CraFlag.COMMAND
        role = Role.SUPPLIER if from_supplier else None
        if message.signature is None:
            return [Check(what, Verdict.FAILS, "the message is not signed")]
    try:
        certificate = keystore.certificate(originator, KeyUsage.DIGITAL_SIGNATURE, role=role)
    except CertificateNotFound as error:
        return [Check(what, Verdict.CANNOT_BE_CHECKED, str(error))]
    return [
        _check_signature(message, certificate.public_key, str(certificate)),
        _check_certificate("signature's certificate", certificate, originator, role, keystore, at),
    ]


def _check_signature(
    message: SignedPreCommand | Command | Response | Alert | Route2bMessage,
    public_key: EllipticCurvePublicKey,
    by: str,
) -> Check:
    try:
        if isinstance(message, Route2bMessage):
            verify_route_2b(message, public_key)
        else:
            verify_message(message, public_key)
    except SignatureInvalid as error:
        return Check("signature", Verdict.FAILS, f"{error}; tried the {by}")
    return Check("signature", Verdict.HOLDS, f"by the {by}")


def _mac_checks(command: Command, keystore: KeyStore, at: datetime) -> list[Check]:
    usage = KeyUsage.KEY_AGREEMENT
    target = command.pre_command.target_id
    try:
        device = keystore.certificate(target, usage)
        broker = keystore.access_control_broker()
        z = _secret(keystore, device, broker)
    except (CertificateNotFound, PrivateKeyNotFound) as error:
        return [Check("MAC", Verdict.CANNOT_BE_CHECKED, str(error))]
    by = f"between the {broker} and the {device}"
    try:
        verify_mac(command, z)
        mac = Check("MAC", Verdict.HOLDS, by)
    except MacInvalid as error:
        mac = Check("MAC", Verdict.FAILS, f"{error}; tried {by}")
    return [
        mac,
        _check_certificate(
            "broker's certificate",
            broker,
            broker.entity_id,
            Role.ACCESS_CONTROL_BROKER,
            keystore,
            at,
        ),
        _check_certificate("device's certificate", device, target, None, keystore, at),
    ]


def _secret(keystore: KeyStore, device: Certificate, broker: Certificate) -> bytes:
    usage = KeyUsage.KEY_AGREEMENT
    for mine, other in ((broker, device), (device, broker)):
        if mine.entity_id is None:
            continue
        try:
            key = keystore.private_key(mine.entity_id, usage, role=mine.role)
        except PrivateKeyNotFound:
            continue
        return shared_secret(key, other.public_key)
    raise PrivateKeyNotFound(
        "the MAC needs the private key-agreement key of the device or of the access control "
        "broker: neither is here"
    )


def _check_certificate(
    what: str,
    certificate: Certificate,
    entity_id: EntityId | None,
    role: Role | None,
    keystore: KeyStore,
    at: datetime,
) -> Check:
    def verify(moment: datetime) -> None:
        keystore.verify(
            certificate, at=moment, usage=certificate.usage, role=role, entity_id=entity_id
        )

    try:
        verify(at)
    except CertificateRefused as error:
        try:
            # Sound but for the time? Then it was when its validity began.
            verify(certificate.not_before)
        except CertificateRefused:
            return Check(what, Verdict.FAILS, str(error))
        return Check(what, Verdict.OUT_OF_TIME, str(error))
    return Check(what, Verdict.HOLDS, f"valid at {at.isoformat(timespec='seconds')}")


def _meaning(part: Part, keystore: KeyStore | None) -> str:
    if part.name is None:
        return ""
    if part.name in ("originator_id", "target_id", "supplementary_remote_party_id"):
        return _who(EntityId(part.value), keystore)
    reader = _MEANINGS.get(part.name)
    return reader(part) if reader is not None else ""


def _who(entity_id: EntityId, keystore: KeyStore | None) -> str:
    certificates = keystore.certificates() if keystore is not None else ()
    roles = {
        certificate.role.label if certificate.role is not None else certificate.kind.value
        for certificate in certificates
        if certificate.entity_id == entity_id
    }
    return f"{entity_id} ({', '.join(sorted(roles))})" if roles else str(entity_id)


def _number(part: Part) -> str:
    return str(part.value)


def _invoke_id(part: Part) -> str:
    return f"{part.value}: low three octets of the counter"


def _octet_count(part: Part) -> str:
    return f"{part.value} octets"


def _text(part: Part) -> str:
    text: str = part.value.decode("ascii")
    return repr(text)


def _payload(part: Part) -> str:
    return f"{len(part.octets)} octets of the tunnel"


def _cra_flag(part: Part) -> str:
    return CraFlag(part.value).name.lower()


def _message_code(part: Part) -> str:
    return {
        MESSAGE_CODE_ECS46A: "ECS46a Set Auxiliary Controller Descriptions",
        MESSAGE_CODE_ECS200: "ECS200 Operational Update",
        MESSAGE_CODE_ROUTE_2B: "route 2b (assumed)",
    }[part.value]


def _label(part: Part) -> str:
    return f"value of label {part.value - FIRST_LABEL_OBIS + 1}"


def _result(part: Part) -> str:
    known = {result.value: result for result in DataAccessResult}
    result = known.get(part.value)
    return result.name.lower().replace("_", " ") if result is not None else "another error"


def _alert_code(part: Part) -> str:
    return "operational update" if part.value == ALERT_CODE_8F88 else "another alert"


def _date_time(part: Part) -> str:
    return str(GbcsDateTime.parse_untrusted(part.value))


_MEANINGS: Mapping[str, Callable[[Part], str]] = {
    "cra_flag": _cra_flag,
    "originator_counter": _number,
    "supplementary_remote_party_counter": _number,
    "supplementary_originator_counter": _number,
    "invoke_id": _invoke_id,
    "message_code": _message_code,
    "other_information_length": _octet_count,
    "content_length": _octet_count,
    "ciphered_length": _octet_count,
    "text_length": _octet_count,
    "specification_count": _number,
    "text_count": _number,
    "null_count": _number,
    "result_count": _number,
    "obis_e": _label,
    "text": _text,
    "result": _result,
    "alert_code": _alert_code,
    "version": _number,
    "payload": _payload,
    "date_time": _date_time,
}
