"""Every error that dsrsp raises. No library's exception escapes from this package.

The tree::

    DsrspError
    ├── ConfigurationError       settings and keys do not make a working gateway
    ├── SendError                the caller asked for something that cannot be sent
    │   ├── UnknownDevice        there is no usable certificate for the device
    │   ├── MessageNotSendable   the message does not go through the tunnel: too long, for instance
    │   └── NoEcho               a CEM was asked for an echo, and none came
    ├── UnknownMessage           no message has this reference
    ├── RouteNotOffered          route 2b is not configured, or there is no offer to withdraw
    ├── GatewayNotRunning        the gateway is used before its start or after its end
    ├── StorageError             durable state cannot be read or written
    ├── InvalidTransition        we erred: an input that this state of a request cannot meet
    ├── CorrelationFailed        a pre-command does not say what was asked: never signed
    ├── SigningFailed            the signer gave no signature, or one that does not hold
    │   ├── SignerUnavailable    it gives none just now: asked again later
    │   └── SigningRefused       it will not sign this, and says why
    └── NetworkError             what came, or did not come, from the DCC
        ├── DccUnreachable       no answer: connection refused or lost, or too slow
        ├── AnswerNotBelieved    an answer that cannot be read or is not properly signed
        └── ReceivedRefused      a message at the receive address that is refused with 400
"""

from __future__ import annotations


class DsrspError(Exception):
    """Root of all errors of dsrsp."""


class ConfigurationError(DsrspError):
    """Settings and keys do not make a working gateway."""


class SendError(DsrspError):
    """The caller asked for something that cannot be sent."""


class UnknownDevice(SendError):
    """There is no usable certificate for the device."""


class MessageNotSendable(SendError):
    """The message does not go through the tunnel."""


class NoEcho(SendError):
    """A CEM was asked for an echo, and none came."""


class UnknownMessage(DsrspError):
    """No message has this reference."""


class RouteNotOffered(DsrspError):
    """Route 2b is not configured, there is no offer to withdraw, or no number for a new one."""


class GatewayNotRunning(DsrspError):
    """The gateway is used before its start or after its end."""


class StorageError(DsrspError):
    """Durable state cannot be read or written."""


class InvalidTransition(DsrspError):
    """We erred: an input that this state of a request cannot meet."""


class CorrelationFailed(DsrspError):
    """A pre-command does not say what was asked: it must never be signed."""


class SigningFailed(DsrspError):
    """The signer gave no signature, or one that does not hold."""


class SignerUnavailable(SigningFailed):
    """The signer gives no signature just now; it is asked again."""


class SigningRefused(SigningFailed):
    """The signer will not sign this."""


class NetworkError(DsrspError):
    """What came, or did not come, from the DCC."""


class DccUnreachable(NetworkError):
    """No answer: connection refused or lost, or too slow."""


class AnswerNotBelieved(NetworkError):
    """An answer that cannot be read or is not properly signed."""


class ReceivedRefused(NetworkError):
    """A message at the receive address that is refused with 400 and this text."""
