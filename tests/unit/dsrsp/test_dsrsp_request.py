"""The table of a request's states: every state against every input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrsp.core.delivery import Outcome, outcome_of
from dsrsp.core.request import (
    FINAL_STATES,
    OUTSIDE_INPUTS,
    TRANSITIONS,
    Action,
    Input,
    Request,
    State,
    transition,
)
from dsrsp.errors import InvalidTransition
from gbcs.entity_id import EntityId
from gbcs.messages import Label, PreCommand
from smtunnel.policy import Result

# One line for each state, one column for each input. A state's letter: it becomes that;
# "-": nothing happens; "!": our own mistake; small letters after "/": what to do.
LETTERS = {
    "R": State.RESERVED,
    "T": State.TRANSFORMING,
    "C": State.CORRELATING,
    "S": State.SIGNED,
    "P": State.SENDING,
    "A": State.ACCEPTED,
    "U": State.UNCONFIRMED,
    "D": State.ANSWERED,
    "X": State.REFUSED,
    "O": State.TIMED_OUT,
    "W": State.WITHDRAWN,
}
ACTIONS = {
    "transform": Action.TRANSFORM,
    "correlate": Action.CORRELATE,
    "keep": Action.KEEP,
    "send": Action.SEND,
    "await": Action.AWAIT,
    "finish": Action.FINISH,
    "note": Action.NOTE,
    "late": Action.NOTE_LATE,
}
COLUMNS = (
    (Input.BEGIN, "T/transform ! ! ! ! ! ! ! ! ! !"),
    (Input.PRE_COMMAND, "- C/correlate - - - - - - - - -"),
    (Input.SIGNATURE, "! ! S/keep ! ! ! ! ! ! ! !"),
    (Input.MISMATCH, "! ! X/finish ! ! ! ! ! ! ! !"),
    (Input.KEPT, "! ! ! P/send ! ! ! ! ! ! !"),
    (Input.ACKNOWLEDGED, "- - - - A/await - A/await - - - -"),
    (Input.NO_ANSWER, "- T/transform - - P/send - - - - - -"),
    (Input.REFUSAL, "- X/finish - X/finish X/finish X/finish X/finish - - - -"),
    (Input.REPEAT_REFUSAL, "- X/finish - - U/await - - - - - -"),
    (Input.RESPONSE, "- - - D/finish D/finish D/finish D/finish - X/late O/late W/late"),
    (Input.TIMER, "- O/finish O/finish O/finish O/finish O/finish O/finish - - - -"),
    (Input.WITHDRAW, "W/finish W/finish W/finish W/finish W/finish - - - - - -"),
    (Input.QUARANTINED, "- - - S/note P/note A/note U/note - - - -"),
    (Input.RESUME, "T/transform ! ! P/send ! A/await U/await ! ! ! !"),
)
CELLS = [
    (state, what, cell)
    for what, line in COLUMNS
    for state, cell in zip(LETTERS.values(), line.split(), strict=True)
]


def test_the_matrix_is_complete():
    assert {what for what, _ in COLUMNS} == set(Input)
    assert set(LETTERS.values()) == set(State) == set(TRANSITIONS)
    assert len(CELLS) == len(State) * len(Input)


@pytest.mark.parametrize(
    ("state", "what", "cell"), CELLS, ids=lambda value: getattr(value, "name", str(value))
)
def test_every_state_against_every_input(state, what, cell):
    if cell == "!":
        assert what not in OUTSIDE_INPUTS
        with pytest.raises(InvalidTransition, match=state.value):
            transition(state, what)
    elif cell == "-":
        assert transition(state, what) == (state, Action.IGNORE)
    else:
        letter, _, action = cell.partition("/")
        assert transition(state, what) == (LETTERS[letter], ACTIONS[action])


def request(state=State.RESERVED, labels=2) -> Request:
    pre_command = PreCommand(
        EntityId(b"supplier"),
        EntityId(b"a device"),
        7,
        tuple(Label(index, "x" * 22) for index in range(1, labels + 1)),
    )
    return Request("ref", 0, pre_command, state)


@given(st.lists(st.sampled_from(sorted(Input, key=lambda what: what.name))))
def test_whatever_happens_nothing_unsigned_is_sent_and_an_end_is_an_end(inputs):
    one = request()
    signed = False
    for what in inputs:
        before = one.state
        try:
            action = one.handle(what, signed_request=b"xml" if what is Input.SIGNATURE else None)
        except InvalidTransition:
            assert one.state is before
            continue
        signed = signed or (what is Input.SIGNATURE and one.state is State.SIGNED)
        if action is Action.SEND:
            assert signed
            assert one.signed_request == b"xml"
        if before in FINAL_STATES:
            assert one.state is before
            assert action in (Action.IGNORE, Action.NOTE_LATE)


@given(st.lists(st.sampled_from(sorted(OUTSIDE_INPUTS, key=lambda what: what.name))))
def test_whatever_comes_from_outside_is_no_error_in_any_state(inputs):
    for state in State:
        one = request(state)
        for what in inputs:
            one.handle(what)


OTHER = 0xFA


@pytest.mark.parametrize(
    ("results", "result"),
    [
        ((0, 0), Result.SUCCESS),
        ((0, 2), Result.BUSY),
        ((2, 2), Result.BUSY),
        ((2, OTHER), Result.REJECTED),
        ((OTHER,), Result.REJECTED),
        ((0,), Result.FAILED),
        ((0, 0, 0), Result.FAILED),
        ((), Result.FAILED),
        ((0, 1), Result.FAILED),
        ((2, 0x77), Result.FAILED),
        ((0, 3), None),
        ((4, 4), None),
    ],
)
def test_what_results_mean(results, result):
    one = request(State.ACCEPTED)
    assert one.handle(Input.RESPONSE, results=results) is Action.FINISH
    outcome = outcome_of(one)
    assert outcome is not None
    assert outcome.result is result
    assert bool(outcome.detail) == (result is not Result.SUCCESS)


@pytest.mark.parametrize(
    ("state", "posts", "heals", "result"),
    [
        (State.TIMED_OUT, 0, False, Result.NOT_HANDED_OVER),
        (State.TIMED_OUT, 1, False, Result.UNKNOWN),
        (State.REFUSED, 0, True, Result.FAILED),
        (State.REFUSED, 2, True, Result.UNKNOWN),
        (State.REFUSED, 0, False, None),
        (State.REFUSED, 2, False, None),
    ],
)
def test_what_an_end_without_results_means(state, posts, heals, result):
    one = request(state)
    one.posts, one.heals, one.reason = posts, heals, "because"
    assert outcome_of(one) == Outcome(result, "because")


@pytest.mark.parametrize(
    "state", [s for s in State if s not in FINAL_STATES or s is State.WITHDRAWN]
)
def test_what_has_not_ended_or_is_withdrawn_means_nothing(state):
    assert outcome_of(request(state)) is None


def test_posts_count_what_an_earlier_process_may_have_posted():
    fresh = request(State.SIGNED)
    fresh.handle(Input.KEPT)
    assert fresh.posts == 1
    resumed = request(State.SIGNED)
    resumed.handle(Input.RESUME)
    assert resumed.posts == 2
    resumed.handle(Input.NO_ANSWER)
    assert resumed.posts == 3


def test_a_late_response_keeps_the_reason_of_the_end():
    one = request(State.SENDING)
    one.handle(Input.TIMER, reason="no answer")
    assert one.handle(Input.RESPONSE, results=(0, 0), reason="late") is Action.NOTE_LATE
    assert (one.state, one.reason, one.results) == (State.TIMED_OUT, "no answer", (0, 0))
