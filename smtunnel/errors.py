"""Every error that smtunnel raises, or reports in an event.

The tree::

    TunnelError
    ├── LocalError                  we, or the caller, erred
    │   ├── MessageTooLong          the message does not fit the limits or the fragment index
    │   └── StateError              saved state cannot be restored
    └── RemoteError                 what came from outside is wrong
        ├── NotAFragment            a payload is not a fragment of this protocol on this carrier
        ├── UnsupportedCompression  the header names a compression that this version does not have
        ├── UnknownDictionary       the zlib stream asks for a preset dictionary we do not have
        ├── WindowTooLarge          the zlib stream needs a larger window than we have memory for
        ├── Base64Error             the joined text is not canonical base64
        ├── ZlibError               the octets are not exactly one complete zlib stream
        ├── FragmentConflict        fragments of one message contradict each other
        ├── LimitExceeded           a message is larger than we are willing to hold
        └── ControlInvalid          a control message is not what its sender should have built
"""

from __future__ import annotations


class TunnelError(Exception):
    """Root of all errors of smtunnel."""


class LocalError(TunnelError, ValueError):
    """We, or the caller, erred: nothing came from outside."""


class MessageTooLong(LocalError):
    """The message does not fit the limits or the fragment index."""


class StateError(LocalError):
    """Saved state cannot be restored: cut short, of another version, or contradictory."""


class RemoteError(TunnelError):
    """What came from outside is wrong."""


class NotAFragment(RemoteError):
    """A payload is not a fragment of this protocol on this carrier."""


class UnsupportedCompression(RemoteError):
    """The header names a compression that this version does not have."""


class UnknownDictionary(RemoteError):
    """The zlib stream asks for a preset dictionary that we do not have.

    ``dictionary_id`` is the DICTID of the stream: the Adler-32 of the dictionary.
    """

    def __init__(self, dictionary_id: int) -> None:
        super().__init__(
            f"the zlib stream needs the preset dictionary {dictionary_id:08X}, which is not known "
            "here: the sender must use one that both ends have, or none"
        )
        self.dictionary_id = dictionary_id


class WindowTooLarge(RemoteError):
    """The zlib stream needs a larger window than we have memory for.

    ``window_bits`` is the base-two logarithm of the largest window that we take.
    """

    def __init__(self, asked: int, window_bits: int) -> None:
        super().__init__(
            f"the zlib stream needs a window of {asked} bits, here are at most {window_bits}: "
            "the sender must use a smaller one"
        )
        self.window_bits = window_bits


class Base64Error(RemoteError):
    """The joined text of a message is not canonical base64."""


class ZlibError(RemoteError):
    """The octets of a message are not exactly one complete zlib stream."""


class FragmentConflict(RemoteError):
    """Fragments of one message contradict each other."""


class LimitExceeded(RemoteError):
    """A message is larger than we are willing to hold."""


class ControlInvalid(RemoteError):
    """A control message is malformed: none of its records counts."""
