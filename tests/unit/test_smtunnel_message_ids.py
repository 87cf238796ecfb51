from __future__ import annotations

import pytest

from smtunnel.errors import LocalError, StateError
from smtunnel.message_ids import MessageIds


def send(ids: MessageIds, first: int, *, delivered: bool) -> int:
    number, avoid = ids.take()
    while first % 65_536 in avoid:
        first += 1
    ids.begin(number, first, first % 65_536)
    ids.end(number, delivered=delivered)
    return number


def test_an_id_whose_message_was_delivered_is_used_again_at_once() -> None:
    ids = MessageIds()
    assert [send(ids, first, delivered=True) for first in range(5)] == [0] * 5
    assert ids.take() == (0, (4,))


def test_after_a_message_of_unknown_fate_another_id_is_used() -> None:
    ids = MessageIds()
    assert [send(ids, first, delivered=False) for first in range(300)] == [
        number % 256 for number in range(300)
    ]
    # Every tag since the last that was seen is avoided.
    assert ids.take() == (44, (44,))
    assert send(ids, 1000, delivered=True) == 44
    assert ids.take() == (44, (1000,))


def test_a_sign_of_the_newest_message_is_enough_to_forget_the_older() -> None:
    ids = MessageIds()
    for first in range(512):
        send(ids, first, delivered=False)
    number, avoid = ids.take()
    assert (number, avoid) == (0, (0, 256))
    ids.begin(number, 999, 999)
    assert ids.seen(number)
    assert not ids.seen(number)
    ids.end(number, delivered=False)
    for first in range(1000, 1255):
        send(ids, first, delivered=False)
    assert ids.take() == (0, (999,))


def test_what_went_unanswered_too_often_is_forgotten_but_for_the_last_that_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smtunnel.message_ids.MAX_REMEMBERED_TAGS", 4)
    ids = MessageIds()
    for first in range(256 * 4 + 1):
        send(ids, first, delivered=False)
    number, avoid = ids.take()
    assert number == 1
    assert len(avoid) == 4
    # Of id 0 the oldest stays, the second oldest has gone.
    assert ids.export(0)[9:13] == (0).to_bytes(2, "big") + (512).to_bytes(2, "big")


def test_no_two_live_messages_have_one_id() -> None:
    ids = MessageIds()
    for first in range(256):
        number, _ = ids.take()
        assert number == first
        ids.begin(number, first, first)
    assert ids.live == 256
    with pytest.raises(LocalError, match="all 256"):
        ids.take()
    ids.end(77, delivered=True)
    assert ids.take() == (77, (77,))


def test_saved_and_restored() -> None:
    ids, again = MessageIds(), MessageIds()
    for first in range(600):
        send(ids, first, delivered=first % 7 == 0)
    for number in range(256):
        again.restore(number, ids.export(number), live=False)
        assert again.export(number) == ids.export(number)
    assert again.take() == ids.take()
    again.restore(again.take()[0], ids.export(0), live=True)
    assert again.live == 1


@pytest.mark.parametrize("saved", [b"", bytes(9), bytes(12)])
def test_saved_state_that_is_not_ours_is_refused(saved: bytes) -> None:
    with pytest.raises(StateError, match="cut short"):
        MessageIds().restore(0, saved, live=False)
