"""Posting to users: retries, backoff, holding, giving up."""

from __future__ import annotations

import msgspec
import pytest

from dcc_sim.core.outbox import Outbox
from dcc_sim.core.state import State
from dcc_sim.store import SqliteStore
from gbcs.ports import NullJournal


class Desk:
    """An outbox over a store in memory."""

    def __init__(self, config, user):
        self.config = config
        self.user = user
        self.store = SqliteStore(":memory:")
        self.now = 1000.0
        self.open()

    def open(self):
        self.state = State(self.config, self.store, NullJournal())
        self.outbox = Outbox(self.state, self.now)

    def put(self, *texts):
        rows = [
            self.state.next_posting(self.user, reference=text, kind="K", xml=b"x", now=self.now)
            for text in texts
        ]
        self.state.storage.save_postings(rows)
        self.outbox.enqueue(rows, self.now)

    def take(self):
        effects, self.state.effects = self.state.effects, []
        self.store.commit()
        return [effect.posting_id for effect in effects if hasattr(effect, "posting_id")]

    def fail(self, posting_id, *, reached=False):
        self.outbox.handle_post_failed(posting_id, "because", self.now, reached=reached)

    def wait(self):
        self.now = self.outbox.get_timer()
        self.outbox.handle_timer(self.now)


@pytest.fixture
def desk(make_config, names):
    made = []

    def make(**changes):
        made.append(Desk(make_config(**changes), names["supplier"]))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def test_taken_is_forgotten(desk):
    box = desk()
    box.put("a")
    assert box.take() == [1]
    box.outbox.handle_posted(1)
    box.outbox.handle_posted(1)
    assert len(box.outbox) == 0
    box.take()
    assert box.store.load().postings == []


def test_pauses_double_up_to_a_limit_then_the_message_is_held_then_dropped(desk):
    box = desk(
        post_backoff_s=1.0,
        post_backoff_max_s=4.0,
        post_limit_s=10.0,
        held_retry_s=60.0,
        hold_limit_s=200.0,
    )
    box.put("a")
    pauses = []
    while box.take() == [1]:
        before = box.now
        box.fail(1)
        if box.outbox.get_timer() is None:
            break
        box.wait()
        pauses.append(box.now - before)
    assert pauses == [1, 2, 4, 4, 60, 60, 60, 60]
    assert len(box.outbox) == 0
    box.take()
    assert box.store.load().postings == []


def test_numbers_are_not_used_again_after_everything_was_taken(desk):
    box = desk()
    box.put("a", "b")
    for posting_id in box.take():
        box.outbox.handle_posted(posting_id)
    box.take()
    box.open()
    box.put("c")
    assert box.take() == [3]


def test_no_more_than_so_many_at_once(desk):
    box = desk(posts_in_flight=2)
    box.put("a", "b", "c", "d")
    assert box.take() == [1, 2]
    box.outbox.handle_posted(1)
    assert box.take() == [3]
    box.fail(2)
    assert box.take() == [4]


def test_user_that_answers_again_gets_at_once_what_did_not_reach_it(desk):
    box = desk(post_backoff_s=1000.0, post_backoff_max_s=1000.0)
    box.put("unreached", "refused", "taken")
    assert box.take() == [1, 2, 3]
    box.fail(1)
    box.fail(2, reached=True)
    assert box.take() == []
    box.outbox.handle_posted(3)
    assert box.take() == [1]
    # The pause of the first failure is over, but void.
    box.wait()
    assert box.take() == [2]
    assert box.outbox.get_timer() is None


def test_restart_posts_again_what_was_not_taken(desk):
    box = desk()
    box.put("a", "b")
    box.take()
    box.outbox.handle_posted(1)
    box.take()
    box.open()
    assert box.take() == [2]


def test_messages_of_a_user_that_is_gone_wait_until_it_is_one_again(desk):
    box = desk()
    box.put("a")
    box.take()
    config = box.config
    box.config = msgspec.structs.replace(config, users=[])
    box.open()
    assert box.take() == []
    assert len(box.outbox) == 0
    box.config = config
    box.open()
    assert box.take() == [1]


def test_news_of_unknown_posts_is_ignored(desk):
    box = desk()
    box.fail(99)
    box.outbox.handle_posted(99)
    assert box.take() == []
