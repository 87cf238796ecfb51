from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gbcs.counters import MAX_ORIGINATOR_COUNTER, OriginatorCounter
from gbcs.errors import BuildError


class MemoryStore:
    def __init__(self, mark: int = 0) -> None:
        self.mark = mark
        self.writes = 0

    def load(self) -> int:
        return self.mark

    def reserve(self, up_to: int) -> None:
        assert up_to > self.mark
        self.mark = up_to
        self.writes += 1


class BrokenStore(MemoryStore):
    def reserve(self, up_to: int) -> None:
        raise OSError(f"disk full at {up_to}")


def test_first_number_of_a_new_store_is_one() -> None:
    assert OriginatorCounter(MemoryStore()).issue_block(1) == 1


def test_blocks_follow_each_other() -> None:
    counter = OriginatorCounter(MemoryStore())
    assert [counter.issue_block(n) for n in (1, 5, 2)] == [1, 2, 7]


def test_one_write_serves_a_whole_reservation() -> None:
    store = MemoryStore()
    counter = OriginatorCounter(store, reserve=10)
    for _ in range(10):
        counter.issue_block(1)
    assert (store.writes, store.mark) == (1, 10)
    counter.issue_block(1)
    assert (store.writes, store.mark) == (2, 20)


def test_block_larger_than_a_reservation() -> None:
    store = MemoryStore()
    assert OriginatorCounter(store, reserve=4).issue_block(100) == 1
    assert store.mark == 100


def test_floor_lifts_a_new_store() -> None:
    store = MemoryStore()
    assert OriginatorCounter(store, floor=1000).issue_block(1) == 1001
    assert store.mark >= 1001


def test_nothing_is_given_out_when_the_store_fails() -> None:
    counter = OriginatorCounter(BrokenStore())
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            counter.issue_block(1)


@pytest.mark.parametrize("count", [0, -1])
def test_empty_block_is_refused(count: int) -> None:
    with pytest.raises(BuildError, match="at least 1"):
        OriginatorCounter(MemoryStore()).issue_block(count)


def test_no_wrap_at_64_bits() -> None:
    counter = OriginatorCounter(MemoryStore(MAX_ORIGINATOR_COUNTER - 1))
    assert counter.issue_block(1) == MAX_ORIGINATOR_COUNTER
    with pytest.raises(BuildError, match="used up"):
        counter.issue_block(1)


@pytest.mark.parametrize("mark", [-1, MAX_ORIGINATOR_COUNTER + 1])
def test_nonsense_in_the_store_is_refused(mark: int) -> None:
    with pytest.raises(BuildError, match="no Originator Counter"):
        OriginatorCounter(MemoryStore(mark))


@pytest.mark.parametrize("options", [{"reserve": 0}, {"floor": -1}])
def test_nonsense_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(BuildError):
        OriginatorCounter(MemoryStore(), **options)


@given(
    st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=40),
    st.integers(1, 100),
)
def test_strictly_increasing_across_crashes(steps: list[tuple[int, bool]], reserve: int) -> None:
    store = MemoryStore()
    counter = OriginatorCounter(store, reserve=reserve)
    last = 0
    for count, crash in steps:
        if crash:  # all that was in memory is gone
            counter = OriginatorCounter(store, reserve=reserve)
        first = counter.issue_block(count)
        assert first > last
        last = first + count - 1
        assert store.mark >= last  # reserved before given out


def test_a_block_avoids_tags_by_skipping_numbers() -> None:
    counter = OriginatorCounter(MemoryStore(), floor=65_535)
    assert counter.issue_block(2, avoid_tags={0, 1}) == 65_538
    assert counter.issue_block(1, avoid_tags={0, 1}) == 65_540
    with pytest.raises(BuildError, match="no number is left"):
        counter.issue_block(1, avoid_tags=range(65_536))


def test_a_number_for_a_tag_is_the_next_that_fits() -> None:
    counter = OriginatorCounter(MemoryStore(), floor=99)
    first = counter.issue_block(3)
    # The rest of the block follows without another jump.
    assert [counter.issue_for_tag(first, index) for index in (1, 2)] == [65_637, 65_638]
    assert counter.issue_for_tag(first, 0) == first + 2 * 65_536


@pytest.mark.parametrize(("tag", "index"), [(-1, 0), (65_536, 0), (0, -1)])
def test_a_tag_has_16_bits_and_an_index_is_not_negative(tag: int, index: int) -> None:
    with pytest.raises(BuildError, match="tag"):
        OriginatorCounter(MemoryStore()).issue_for_tag(tag, index)


@given(
    st.integers(0, 2**40),
    st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 2047)), min_size=1, max_size=20),
)
def test_numbers_for_tags_rise_and_fit(floor: int, asked: list[tuple[int, int]]) -> None:
    counter = OriginatorCounter(MemoryStore(), floor=floor)
    last = floor
    for tag, index in asked:
        number = counter.issue_for_tag(tag, index)
        assert (number - index) % 65_536 == tag
        assert number >= index
        assert last < number <= max(last, index) + 65_536
        last = number
