"""Every error that gbcs raises. No library's exception escapes from this package.

The tree::

    GbcsError
    ├── BuildError                  the caller asked for something that the format cannot say
    ├── FormatError                 octets from outside are not a well-formed GBCS message
    ├── SignatureInvalid            a GBCS signature does not hold
    ├── MacInvalid                  a GBCS MAC does not hold
    ├── CertificateError
    │   ├── CertificateFormatError  octets are not a certificate or key of an SMKI profile
    │   ├── CertificateNotFound     no certificate for this EUI, usage and role
    │   ├── PrivateKeyNotFound      no private key for this EUI, usage and role
    │   ├── CertificateRefused      chain, validity, usage, role or EUI is not what is needed
    │   └── TestKeysRefused         publicly known test keys outside test mode
    ├── SmkiRepositoryFormatError   not a request to, or an answer of, an SMKI repository
    ├── Route2bRefused              a peer of route 2b is not let in, or put out: code and reason
    ├── Route2bClosed               a connection of route 2b has ended
    └── DuisError
        ├── DuisFormatError         not well-formed XML, or not a DUIS message that we know
        ├── DuisSchemaError         does not validate against the DUIS schema
        └── XmlSignatureInvalid     XML signature missing, of another profile, or does not hold
"""

from __future__ import annotations


class GbcsError(Exception):
    """Root of all errors of gbcs."""


class BuildError(GbcsError, ValueError):
    """The caller asked for something that the format cannot say."""


class FormatError(GbcsError):
    """Octets from outside are not a well-formed GBCS message.

    ``offset`` is the position in octets at which reading failed, ``field`` the
    name of what was expected there; either is None where it is not known.
    """

    def __init__(
        self, message: str, *, offset: int | None = None, field: str | None = None
    ) -> None:
        where = "" if offset is None else f" at octet {offset}"
        what = "" if field is None else f" in {field}"
        super().__init__(f"{message}{what}{where}")
        self.offset = offset
        self.field = field


class SignatureInvalid(GbcsError):
    """A GBCS signature does not hold."""


class MacInvalid(GbcsError):
    """A GBCS MAC does not hold."""


class CertificateError(GbcsError):
    """A certificate or key is missing, malformed or not to be used for this."""


class CertificateFormatError(CertificateError):
    """Octets are not a certificate or key of an SMKI profile."""


class CertificateNotFound(CertificateError):
    """There is no certificate for this EUI, usage and role."""


class PrivateKeyNotFound(CertificateError):
    """There is no private key for this EUI, usage and role."""


class CertificateRefused(CertificateError):
    """Chain, validity, usage, role or EUI of a certificate is not what is needed."""


class TestKeysRefused(CertificateError):
    """Publicly known test keys were given outside test mode."""

    __test__ = False  # pytest: not a test class


class SmkiRepositoryFormatError(GbcsError):
    """Octets from outside are not a request to, or an answer of, an SMKI repository."""


class Route2bRefused(GbcsError):
    """A peer of route 2b is not let in, or put out.

    ``code`` is the WebSocket close code that says so (`gbcs.route_2b_texts.CloseCode`), ``reason``
    the text beside it.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Route2bClosed(GbcsError):
    """A connection of route 2b has ended.

    ``code`` and ``reason`` are what the other end said. Without a code nothing was said: the reason
    is then ours, or empty when the connection just broke.
    """

    def __init__(self, code: int | None, reason: str) -> None:
        if code is None:
            told = reason or "the connection broke"
        else:
            told = f"the other end closed it: {code}" + (f" {reason!r}" if reason else "")
        super().__init__(told)
        self.code = code
        self.reason = reason


class DuisError(GbcsError):
    """Something is wrong with a DUIS message."""


class DuisFormatError(DuisError):
    """Not well-formed XML, or not a DUIS message that we know."""


class DuisSchemaError(DuisError):
    """A DUIS message does not validate against the schema."""


class XmlSignatureInvalid(DuisError):
    """An XML signature is missing, of another profile, or does not hold."""
