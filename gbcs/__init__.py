"""GB smart-metering formats: GBCS messages and their protection, certificates, DUIS XML. No I/O."""

from __future__ import annotations

try:
    from gbcs.certificates import Certificate, CertificateKind, KeyUsage, Role, parse_certificate
    from gbcs.crypto import (
        EcdsaSigner,
        add_mac,
        shared_secret,
        sign_alert,
        sign_pre_command,
        sign_response,
        verify_mac,
        verify_message,
        verify_signature,
    )
    from gbcs.date_time import GbcsDateTime
    from gbcs.entity_id import EntityId
    from gbcs.keystore import KeyStore
    from gbcs.messages import (
        MAX_MESSAGE_OCTETS,
        Alert,
        Command,
        CraFlag,
        DataAccessResult,
        Label,
        Message,
        PreCommand,
        Response,
        SignedPreCommand,
        parse_untrusted,
    )
except ModuleNotFoundError as missing:
    # The base install carries the embeddable library alone.
    raise ModuleNotFoundError(
        f"gbcs needs the package {missing.name!r}: "
        "install the extra 'gateway' (pip install 'smtunnel[gateway]')",
        name=missing.name,
    ) from None

__all__ = [
    "MAX_MESSAGE_OCTETS",
    "Alert",
    "Certificate",
    "CertificateKind",
    "Command",
    "CraFlag",
    "DataAccessResult",
    "EcdsaSigner",
    "EntityId",
    "GbcsDateTime",
    "KeyStore",
    "KeyUsage",
    "Label",
    "Message",
    "PreCommand",
    "Response",
    "Role",
    "SignedPreCommand",
    "add_mac",
    "parse_certificate",
    "parse_untrusted",
    "shared_secret",
    "sign_alert",
    "sign_pre_command",
    "sign_response",
    "verify_mac",
    "verify_message",
    "verify_signature",
]
