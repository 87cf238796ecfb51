"""Between the tunnel's end and the DCC: a fragment becomes a request, its end becomes a result.

Source: ``specs/tunnel-protocol.md``, downlink delivery: all results 00 on all fragments is
the receipt, for the CEM answers the last one only after it has the whole message on its disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dsrsp.core.refusals import explain_results
from dsrsp.core.request import Request, State
from gbcs.entity_id import EntityId
from gbcs.messages import DataAccessResult, Label, PreCommand
from smtunnel import payload_to_labels
from smtunnel.policy import Result
from smtunnel.send_events import Transmit

_NEVER: Final = frozenset(
    {
        DataAccessResult.READ_WRITE_DENIED,
        DataAccessResult.OBJECT_UNDEFINED,
        DataAccessResult.OBJECT_CLASS_INCONSISTENT,
        DataAccessResult.OBJECT_UNAVAILABLE,
        DataAccessResult.TYPE_UNMATCHED,
        DataAccessResult.SCOPE_OF_ACCESS_VIOLATED,
    }
)
"""Results of a device that has no such labels, or does not take them from us: it is no CEM, or not
ours. The same command would have the same result again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request, as its fragment's message must know it.

    ``result`` is None when no repetition can heal it: the message has failed. ``detail`` says
    why, for a person.
    """

    result: Result | None
    detail: str = ""


def make_request(transmit: Transmit, *, supplier_id: EntityId) -> Request:
    """Make the request that carries a fragment down.

    Args:
        transmit: what the tunnel's end gave out.
        supplier_id: who sends it.
    """
    labels = payload_to_labels(str(transmit.payload))
    return Request(
        message_ref=transmit.ref,
        index=transmit.index,
        attempt=transmit.attempt,
        pre_command=PreCommand(
            originator_id=supplier_id,
            target_id=EntityId(transmit.peer),
            originator_counter=transmit.originator_counter,
            labels=tuple(Label(number, text) for number, text in labels),
        ),
    )


def outcome_of(request: Request) -> Outcome | None:
    """Say what the state of a request means for its fragment; None: nothing yet, or no more."""
    reason = request.reason or request.state.value
    match request.state:
        case State.ANSWERED:
            return outcome_of_results(request.results or (), len(request.pre_command.labels))
        case State.TIMED_OUT if not request.posts:
            # Nothing was signed: it is the way to the DCC that is closed.
            return Outcome(Result.NOT_HANDED_OVER, reason)
        case State.TIMED_OUT:
            return Outcome(Result.UNKNOWN, reason)
        case State.REFUSED if not request.heals:
            return Outcome(None, reason)
        case State.REFUSED:
            # What the device has, or will have, of a command that was posted is not known.
            return Outcome(Result.UNKNOWN if request.posts else Result.FAILED, reason)
        case _:
            return None


def outcome_of_results(results: Sequence[int], labels: int) -> Outcome:
    """Say what a device's results mean.

    Args:
        results: the data-access-results as they came.
        labels: how many labels were sent.
    """
    if len(results) == labels and not any(results):
        return Outcome(Result.SUCCESS)
    detail = explain_results(results, labels)
    if DataAccessResult.OTHER_REASON in results:
        return Outcome(Result.REJECTED, detail)
    if _NEVER.intersection(results):
        return Outcome(None, detail)
    if len(results) == labels and set(results) <= {0, DataAccessResult.TEMPORARY_FAILURE}:
        return Outcome(Result.BUSY, detail)
    return Outcome(Result.FAILED, detail)
