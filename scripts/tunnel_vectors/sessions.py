"""Vectors of a receiver over time: counters, peers, repetitions, ids that come round, limits."""

from __future__ import annotations

import zlib
from typing import Any

from tunnel_vectors.common import (
    CEM,
    CONTROL,
    DSRSP,
    EVENT,
    NONE,
    RESERVED,
    Vector,
    cut,
    noise,
    payload,
    text_of,
)
from tunnel_vectors.deflate import zlib_stream

TAGS = 65_536
_LIMITS = {
    "message_octets": 4096,
    "window_bits": 15,
    "partial_messages": 3,
    "peers": 2,
    "lifetime_s": 259_200,
    "replay_window": 32,
}


class Session:
    """One session's steps, written down one after another."""

    def __init__(self, name: str, **limits: int) -> None:
        """Begin; limits that are not given have common values."""
        self._name = name
        self._carrier, self._originator = "t110", DSRSP
        self._limits = {**_LIMITS, **limits}
        self._steps: list[dict[str, Any]] = []
        self._now = 0

    def up(self) -> Session:
        """Let the session be one of a DSRSP, which receives alerts."""
        self._carrier, self._originator = "t1062", CEM
        return self

    def receive(
        self,
        counter: int,
        text: str,
        *expected: str,
        peer: str = "a1",
        now: int | None = None,
        busy: bool = False,
    ) -> Session:
        """Let a fragment come; expected are the events."""
        self._now = self._now if now is None else now
        step: dict[str, Any] = {"do": "receive", "peer": peer, "counter": str(counter)}
        step |= {"now": self._now, "payload": text, "expect": list(expected)}
        if busy:
            step["busy"] = True
        self._steps.append(step)
        return self

    def time(self, now: int, *expected: str) -> Session:
        """Let time pass."""
        self._now = now
        self._steps.append({"do": "time", "now": now, "expect": list(expected)})
        return self

    def restart(self) -> Session:
        """Let the receiver forget all that it has not kept durably."""
        self._steps.append({"do": "restart"})
        return self

    def vector(self) -> Vector:
        """Return the vector."""
        return {
            "name": f"session-{self._name}",
            "carrier": self._carrier,
            "originator": self._originator,
            "limits": self._limits,
            "steps": self._steps,
        }


class Message:
    """A message of several fragments, and the events that tell of it."""

    def __init__(
        self, message: bytes, fragments: int, *, message_id: int = 7, originator: int = DSRSP
    ) -> None:
        """Cut a message into so many fragments."""
        self.octets = message
        self._id = message_id
        stream = zlib_stream(message, "stored")
        size = -(-len(text_of(stream)) // fragments)
        self.payloads = cut(stream, size, message_id=message_id, originator=originator)
        if len(self.payloads) != fragments:
            raise ValueError(f"{len(self.payloads)} fragments are not {fragments}")

    def accepted(self, key: int, index: int) -> str:
        """Tell that a fragment is taken; key is of the fragment that came first."""
        last = int(index == len(self.payloads) - 1)
        return f"accepted,d,{self._id},{key},{index},{last}"

    def whole(self, key: int) -> str:
        """Tell that the message is whole."""
        return f"message,{self._id},{key},{self.octets.hex() or '-'}"

    def ended(self, key: int, code: int, detail: int = 0) -> str:
        """Tell that a fragment is of this message, which ended without being delivered."""
        return f"ignored,ended,d,{self._id},{key},{code},{detail}"

    def told(self, what: str, key: int, *more: str) -> str:
        """Tell something of the message."""
        return ",".join([what, "d", str(self._id), str(key), *more])


def sessions() -> list[Vector]:
    """Make all sessions."""
    made = [*_plain(), *_again(), *_older(), *_bad(), *_window(), *_time(), *_bounds()]
    made += [*_control(), *_restart()]
    return [session.vector() for session in made]


def _all(session: Session, message: Message, first: int, *, peer: str = "a1") -> Session:
    """Let all fragments of a message come in order, for the first time."""
    for index, text in enumerate(message.payloads):
        events = [message.accepted(first, index)]
        if index == len(message.payloads) - 1:
            events.append(message.whole(first))
        session.receive(first + index, text, *events, peer=peer)
    return session


def _plain() -> list[Session]:
    one, two = Message(noise(60), 3), Message(b"another message", 2, message_id=8)
    whole = Message(b"hello", 1)
    reverse = Session("reversed")
    for index in (2, 1):
        reverse.receive(100 + index, one.payloads[index], one.accepted(100 + 2 - 2, index))
    reverse.receive(100, one.payloads[0], one.accepted(100, 0), one.whole(100))
    woven = (
        Session("interleaved")
        .receive(100, one.payloads[0], one.accepted(100, 0))
        .receive(103, two.payloads[0], two.accepted(103, 0))
        .receive(102, one.payloads[2], one.accepted(100, 2))
        .receive(104, two.payloads[1], two.accepted(103, 1), two.whole(103))
        .receive(101, one.payloads[1], one.accepted(100, 1), one.whole(100))
    )
    peers = Session("peers-are-independent")
    peers.receive(100, one.payloads[0], one.accepted(100, 0), peer="a1")
    peers.receive(100, one.payloads[0], one.accepted(100, 0), peer="b2")
    peers.receive(101, one.payloads[1], one.accepted(100, 1), peer="b2")
    peers.receive(102, one.payloads[2], one.accepted(100, 2), one.whole(100), peer="b2")
    peers.receive(101, one.payloads[1], one.accepted(100, 1), peer="a1")
    peers.receive(102, one.payloads[2], one.accepted(100, 2), one.whole(100), peer="a1")
    reuse = Session("id-used-again-at-once")
    for first in (100, 103, 200, 70_000):
        _all(reuse, one, first)
    highest = 2**64 - 1
    plain = payload("aGVsbG8=", compression=NONE, last=True, message_id=9)
    upwards = Message(EVENT, 3, message_id=200, originator=CEM)
    return [
        _all(Session("in-order"), one, 100),
        reverse,
        woven,
        peers,
        reuse,
        Session("one-fragment").receive(5, whole.payloads[0], whole.accepted(5, 0), whole.whole(5)),
        Session("plain").receive(5, plain, "accepted,d,9,5,0,1", "message,9,5," + b"hello".hex()),
        _all(Session("counter-zero"), one, 0),
        _all(Session("highest-counters"), one, highest - 2),
        _all(Session("sparse-counters"), one, 4_000_000_000_000),
        _all(Session("up").up(), upwards, 100),
        _strangers(),
    ]


def _strangers() -> Session:
    one = Message(noise(60), 3)
    others = Message(noise(60), 3, originator=CEM)
    return (
        Session("what-is-no-fragment-changes-nothing")
        .receive(99, "Heat pump", "ignored,not-a-fragment")
        .receive(100, one.payloads[0], one.accepted(100, 0))
        .receive(101, "Heat pump", "ignored,not-a-fragment")
        .receive(101, others.payloads[1], "ignored,not-mine")
        .receive(1, one.payloads[2], "ignored,not-a-fragment")
        .receive(101, one.payloads[1], one.accepted(100, 1))
        .receive(102, one.payloads[2], one.accepted(100, 2), one.whole(100))
    )


def _again() -> list[Session]:
    """Fragments that come more than once, by replay and by the sender's repetition."""
    one = Message(noise(60), 3)
    replays = Session("replays-of-a-live-message")
    replays.receive(100, one.payloads[0], one.accepted(100, 0))
    replays.receive(100, one.payloads[0], "ignored,replay")
    replays.receive(102, one.payloads[2], one.accepted(100, 2))
    replays.receive(100, one.payloads[0], "ignored,replay")
    replays.receive(102, one.payloads[2], "ignored,replay")
    replays.receive(101, one.payloads[1], one.accepted(100, 1), one.whole(100))
    after = _all(Session("replays-of-a-delivered-message"), one, 100)
    for index in (0, 1, 2, 2, 0):
        after.receive(100 + index, one.payloads[index], "ignored,replay")
    repeated = (
        Session("lost-fragment-sent-again")
        .receive(100, one.payloads[0], one.accepted(100, 0))
        .receive(102, one.payloads[2], one.accepted(100, 2))
        .receive(100 + TAGS + 1, one.payloads[1], one.accepted(100, 1), one.whole(100))
    )
    thrice = (
        Session("sent-again-more-than-once")
        .receive(100, one.payloads[0], one.accepted(100, 0))
        .receive(100 + TAGS, one.payloads[0], one.told("ignored,duplicate", 100))
        .receive(100 + TAGS, one.payloads[0], "ignored,replay")
        .receive(100 + 2 * TAGS + 1, one.payloads[1], one.accepted(100, 1))
        .receive(101, one.payloads[1], one.told("ignored,duplicate", 100))
        .receive(100 + 5 * TAGS + 2, one.payloads[2], one.accepted(100, 2), one.whole(100))
        .receive(102, one.payloads[2], one.told("ignored,delivered", 100))
    )
    delivered = _all(Session("sent-again-after-delivery"), one, 100)
    delivered.receive(101 + TAGS, one.payloads[1], one.told("ignored,delivered", 100))
    delivered.receive(101 + TAGS, one.payloads[1], "ignored,replay")
    delivered.receive(100 + 3 * TAGS, one.payloads[0], one.told("ignored,delivered", 100))
    first_lost = (
        Session("known-by-what-was-sent-again-first")
        .receive(101 + TAGS, one.payloads[1], one.accepted(100 + TAGS, 1))
        .receive(100, one.payloads[0], one.accepted(100 + TAGS, 0))
        .receive(102, one.payloads[2], one.accepted(100 + TAGS, 2), one.whole(100 + TAGS))
        .receive(101, one.payloads[1], one.told("ignored,delivered", 100 + TAGS))
    )
    return [replays, after, repeated, thrice, delivered, first_lost]


def _older() -> list[Session]:
    """An id that comes round while fragments of its older messages are still on their way."""
    old, new = Message(noise(60), 3), Message(noise(120)[60:], 3)
    superseded = (
        Session("superseded")
        .receive(100, old.payloads[0], old.accepted(100, 0))
        .receive(101, old.payloads[1], old.accepted(100, 1))
        .receive(200, new.payloads[0], new.accepted(200, 0), old.told("aborted", 100, "superseded"))
        .receive(102, old.payloads[2], "ignored,older-message")
        .receive(202, new.payloads[2], new.accepted(200, 2))
        .receive(201, new.payloads[1], new.accepted(200, 1), new.whole(200))
    )
    # The new message's counters are above those of the repetition that comes late.
    first = 100 + TAGS + 5
    hole = _all(Session("late-repetition-does-not-fill-a-hole"), old, 100)
    hole.receive(first, new.payloads[0], new.accepted(first, 0))
    hole.receive(first + 2, new.payloads[2], new.accepted(first, 2))
    hole.receive(100 + TAGS + 1, old.payloads[1], "ignored,older-message")
    hole.receive(first + 1, new.payloads[1], new.accepted(first, 1), new.whole(first))
    hole.receive(100 + TAGS + 2, old.payloads[2], "ignored,older-message")
    begins = (
        Session("older-message-does-not-begin")
        .receive(first, new.payloads[0], new.accepted(first, 0))
        .receive(100, old.payloads[0], "ignored,older-message")
        .receive(101, old.payloads[1], "ignored,older-message")
        .receive(102, old.payloads[2], "ignored,older-message")
        .receive(first + 1, new.payloads[1], new.accepted(first, 1))
        .receive(first + 2, new.payloads[2], new.accepted(first, 2), new.whole(first))
    )
    # Same tag, but from before the use that was known before this one.
    far = 100 + 3 * TAGS
    same_tag = (
        Session("same-tag-of-long-ago")
        .receive(5000, old.payloads[0], old.accepted(5000, 0))
        .receive(
            far, new.payloads[0], new.accepted(far, 0), old.told("aborted", 5000, "superseded")
        )
        .receive(101, old.payloads[1], "ignored,older-message")
        .receive(101 + TAGS, new.payloads[1], new.accepted(far, 1))
        .receive(102 + far - 100, new.payloads[2], new.accepted(far, 2), new.whole(far))
    )
    replayed = _all(_all(Session("replay-of-an-older-delivered-message"), old, 100), new, 200)
    for index in range(3):
        replayed.receive(100 + index, old.payloads[index], "ignored,replay")
    return [superseded, hole, begins, same_tag, replayed]


def _bad() -> list[Session]:
    """Messages that end badly, and what comes of them afterwards."""
    one, other = Message(noise(60), 3), Message(noise(120)[60:], 3)
    conflict = (
        Session("conflict-ends-the-message")
        .receive(100, one.payloads[0], one.accepted(100, 0))
        .receive(100 + TAGS, other.payloads[0], one.told("rejected", 100, "FragmentConflict"))
        .receive(101, one.payloads[1], one.ended(100, 6))
        .receive(102 + TAGS, one.payloads[2], one.ended(100, 6))
    )
    _all(conflict, other, 300 + TAGS)
    reused = (
        Session("counter-used-twice")
        .receive(100, one.payloads[0], one.accepted(100, 0))
        .receive(100, other.payloads[0], "ignored,counter-reused")
        .receive(100, Message(noise(60), 3, message_id=8).payloads[0], "ignored,counter-reused")
        .receive(101, one.payloads[1], one.accepted(100, 1))
        .receive(102, one.payloads[2], one.accepted(100, 2), one.whole(100))
        .receive(102, other.payloads[2], "ignored,counter-reused")
    )
    broken = cut(zlib_stream(b"broken", "stored")[:-1] + b"!", message_id=7)[0]
    damaged = (
        Session("damaged-message-is-told-once")
        .receive(100, broken, "rejected,d,7,100,ZlibError")
        .receive(100, broken, "ignored,ended,d,7,100,2,0")
        .receive(100 + TAGS, broken, "ignored,ended,d,7,100,2,0")
    )
    _all(damaged, one, 200 + TAGS)
    unknown = zlib_stream(b"words", "fixed", dictionary=b"words nobody knows")
    dictionary_id = zlib.adler32(b"words nobody knows")
    dictionary = (
        Session("unknown-dictionary")
        .receive(9, cut(unknown, message_id=7)[0], "rejected,d,7,9,UnknownDictionary")
        .receive(9 + TAGS, cut(unknown, message_id=7)[0], f"ignored,ended,d,7,9,3,{dictionary_id}")
    )
    window = cut(zlib_stream(b"words", "fixed", window_bits=15), message_id=7)[0]
    large = (
        Session("window-too-large", window_bits=10)
        .receive(9, window, "rejected,d,7,9,WindowTooLarge")
        .receive(9 + TAGS, window, "ignored,ended,d,7,9,4,10")
    )
    reserved = payload("AAAA", compression=RESERVED, message_id=7)
    later = (
        Session("reserved-compression")
        .receive(9, reserved, "rejected,d,7,9,UnsupportedCompression")
        .receive(9 + TAGS, reserved, "ignored,ended,d,7,9,7,0")
    )
    long = Message(noise(60), 3)
    limit = (
        Session("message-too-long", message_octets=59)
        .receive(100, long.payloads[0], long.accepted(100, 0))
        .receive(102, long.payloads[2], long.accepted(100, 2))
        .receive(101, long.payloads[1], long.told("rejected", 100, "LimitExceeded"))
        .receive(101 + TAGS, long.payloads[1], long.ended(100, 5, 59))
    )
    text = payload("aGVsbG9=", compression=NONE, last=True, message_id=7)
    base64 = (
        Session("text-not-canonical")
        .receive(9, text, "rejected,d,7,9,Base64Error")
        .receive(9 + TAGS, text, "ignored,ended,d,7,9,1,0")
    )
    return [conflict, reused, damaged, dictionary, large, later, limit, base64]


def _window() -> list[Session]:
    """A replay window of four counters."""
    one = Message(noise(60), 3)
    small = [Message(bytes([number]), 1, message_id=number) for number in range(10, 20)]
    late = Session("late-fragment-of-a-live-message-below-the-floor", replay_window=4)
    late.receive(100, one.payloads[0], one.accepted(100, 0))
    late.receive(102, one.payloads[2], one.accepted(100, 2))
    for step, message in enumerate(small):
        _all(late, message, 200 + step)
    late.receive(101, one.payloads[1], one.accepted(100, 1), one.whole(100))
    stale = Session("stale", replay_window=4)
    for step, message in enumerate(small[:5]):
        _all(stale, message, 200 + step)
    stale.receive(199, one.payloads[0], "ignored,stale")
    stale.receive(200, one.payloads[0], "ignored,stale")
    # 201 to 204 are remembered, 201 is the floor; between is room for what is late.
    stale.receive(203, small[3].payloads[0], "ignored,replay")
    stale.receive(203, one.payloads[0], "ignored,counter-reused")
    # Its own message is known to be delivered, though nobody can tell who repeats it.
    stale.receive(200, small[0].payloads[0], "ignored,replay")
    sparse = Session("sparse-window", replay_window=4)
    for step, message in enumerate(small[:4]):
        _all(sparse, message, 1000 * (step + 1))
    _all(sparse, small[4], 1500)
    _all(sparse, small[5], 2500)
    sparse.receive(1400, one.payloads[0], "ignored,stale")
    sparse.receive(2500, small[5].payloads[0], "ignored,replay")
    below = Session("what-is-below-the-floor-is-never-new", replay_window=2)
    below.receive(100, one.payloads[0], one.accepted(100, 0))
    for step, message in enumerate(small[:2]):
        _all(below, message, 200 + step)
    # 200 and 201 are remembered: 100 is not, but too old to ask for anything.
    below.receive(100, one.payloads[0], "ignored,replay")
    _all(below, small[2], 202)
    newer = Message(b"newer", 1, message_id=10)
    _all(below, newer, 300)
    _all(below, small[3], 301)
    # An older message of id 10: only a counter that is remembered makes it a replay.
    below.receive(200, small[0].payloads[0], "ignored,older-message")
    below.receive(202, small[2].payloads[0], "ignored,replay")
    return [late, stale, sparse, below]


def _time() -> list[Session]:
    one, two = Message(noise(60), 3), Message(b"another message", 2, message_id=8)
    expires = (
        Session("expires", lifetime_s=60)
        .receive(100, one.payloads[0], one.accepted(100, 0), now=1000)
        .receive(101, one.payloads[1], one.accepted(100, 1), now=1059)
        .time(1059)
        .time(1060, one.told("expired", 100))
        .time(1061)
        .receive(102, one.payloads[2], one.ended(100, 8), now=1062)
        .receive(100 + TAGS, one.payloads[0], one.ended(100, 8), now=1063)
    )
    _all(expires, one, 200 + TAGS)
    meanwhile = (
        Session("expires-when-the-next-fragment-comes", lifetime_s=60)
        .receive(100, one.payloads[0], one.accepted(100, 0), now=10)
        .receive(103, two.payloads[0], two.accepted(103, 0), one.told("expired", 100), now=70)
        .receive(104, two.payloads[1], two.accepted(103, 1), two.whole(103), now=129)
    )
    too_late = (
        Session("its-own-fragment-comes-too-late", lifetime_s=60)
        .receive(100, one.payloads[0], one.accepted(100, 0), now=10)
        .receive(101, one.payloads[1], one.told("expired", 100), one.ended(100, 8), now=70)
    )
    return [expires, meanwhile, too_late]


def _bounds() -> list[Session]:
    parts = [Message(noise(60), 3, message_id=number) for number in range(4)]
    single = Message(b"hello", 1, message_id=9)
    crowd = Session("too-many-partial-messages", partial_messages=2)
    crowd.receive(100, parts[0].payloads[0], parts[0].accepted(100, 0), now=1)
    crowd.receive(200, parts[1].payloads[0], parts[1].accepted(200, 0), now=2)
    # The first was heard of since, so the second has been silent for longer.
    crowd.receive(101, parts[0].payloads[1], parts[0].accepted(100, 1), now=3)
    crowd.receive(300, single.payloads[0], single.accepted(300, 0), single.whole(300), now=4)
    crowd.receive(
        400,
        parts[2].payloads[0],
        parts[2].accepted(400, 0),
        parts[1].told("aborted", 200, "too-many-partial"),
        now=5,
    )
    crowd.receive(201, parts[1].payloads[1], parts[1].ended(200, 9), now=6)
    crowd.receive(102, parts[0].payloads[2], parts[0].accepted(100, 2), parts[0].whole(100), now=7)
    crowd.receive(401, parts[2].payloads[1], parts[2].accepted(400, 1), now=8)
    strangers = (
        Session("too-many-peers", peers=1)
        .receive(100, parts[0].payloads[0], parts[0].accepted(100, 0), peer="a1")
        .receive(100, parts[0].payloads[0], "ignored,too-many-peers", peer="b2")
        .receive(101, parts[0].payloads[1], parts[0].accepted(100, 1), peer="a1")
    )
    one = parts[0]
    busy = (
        Session("busy")
        .receive(100, one.payloads[0], one.accepted(100, 0))
        .receive(101, one.payloads[1], "ignored,busy", busy=True)
        .receive(100, one.payloads[0], "ignored,replay", busy=True)
        .receive(200, single.payloads[0], "ignored,busy", busy=True)
        .receive(101 + TAGS, one.payloads[1], one.accepted(100, 1))
        .receive(102, one.payloads[2], one.accepted(100, 2), one.whole(100))
        .receive(100 + TAGS, one.payloads[0], one.told("ignored,delivered", 100), busy=True)
        .receive(200, single.payloads[0], single.accepted(200, 0), single.whole(200))
    )
    unheard = Session("a-repetition-does-not-keep-a-message-alive", partial_messages=2)
    unheard.receive(200, parts[1].payloads[0], parts[1].accepted(200, 0), now=1)
    unheard.receive(100, one.payloads[0], one.accepted(100, 0), now=2)
    unheard.receive(200, parts[1].payloads[0], "ignored,replay", now=3)
    again = parts[1].told("ignored,duplicate", 200)
    unheard.receive(200 + TAGS, parts[1].payloads[0], again, now=4)
    gone = parts[1].told("aborted", 200, "too-many-partial")
    third = parts[2].accepted(4 * TAGS, 0)
    unheard.receive(4 * TAGS, parts[2].payloads[0], third, gone, now=5)
    unheard.receive(101, one.payloads[1], one.accepted(100, 1), now=6)
    stranger = (
        Session("a-busy-receiver-learns-no-peer", peers=1)
        .receive(100, single.payloads[0], "ignored,busy", peer="a1", busy=True)
        .receive(100, single.payloads[0], single.accepted(100, 0), single.whole(100), peer="b2")
        .receive(100, single.payloads[0], "ignored,too-many-peers", peer="a1")
    )
    return [crowd, strangers, busy, unheard, stranger]


def _records(*records: bytes) -> bytes:
    octets = b"".join(records)
    return octets + zlib.crc32(octets).to_bytes(4, "big")


def _control() -> list[Session]:
    """Control messages: ids of their own, the same rules."""
    wanted = _records(b"\x07\x00")
    three = _records(b"\x07\x00", b"\xfa\x02zz", b"\x04\x0812345678")
    data = Message(noise(60), 3, message_id=5)
    alone = cut(wanted, compression=CONTROL, message_id=5)[0]
    parts = cut(three, 12, compression=CONTROL, message_id=5)
    own_ids = (
        Session("control-has-ids-of-its-own")
        .receive(100, data.payloads[0], data.accepted(100, 0))
        .receive(103, alone, "accepted,c,5,103,0,1", "control,5,103,1,0")
        .receive(103, alone, "ignored,replay")
        .receive(103 + TAGS, alone, "ignored,delivered,c,5,103")
        .receive(101, data.payloads[1], data.accepted(100, 1))
        .receive(102, data.payloads[2], data.accepted(100, 2), data.whole(100))
    )
    several = Session("control-in-several-fragments")
    for index in range(len(parts) - 1, 0, -1):
        last = int(index == len(parts) - 1)
        several.receive(50 + index, parts[index], f"accepted,c,5,50,{index},{last}")
    several.receive(50, parts[0], "accepted,c,5,50,0,0", "control,5,50,2,1")
    damaged = cut(wanted[:-1] + b"!", compression=CONTROL, message_id=5)[0]
    bad = (
        Session("control-damaged")
        .receive(9, damaged, "rejected,c,5,9,ControlInvalid")
        .receive(9 + TAGS, damaged, "ignored,ended,c,5,9,0,0")
        .receive(200 + TAGS, alone, f"accepted,c,5,{200 + TAGS},0,1", f"control,5,{200 + TAGS},1,0")
    )
    return [own_ids, several, bad]


def _restart() -> list[Session]:
    """What must survive a restart."""
    one, two = Message(noise(60), 3), Message(b"another message", 2, message_id=8)
    broken = cut(zlib_stream(b"broken", "stored")[:-1] + b"!", message_id=9)[0]
    middle = (
        Session("restart-in-the-middle", lifetime_s=60)
        .receive(100, one.payloads[0], one.accepted(100, 0), now=10)
        .receive(102, one.payloads[2], one.accepted(100, 2), now=20)
        .restart()
        .receive(100, one.payloads[0], "ignored,replay", now=30)
        .receive(101 + TAGS, one.payloads[1], one.accepted(100, 1), one.whole(100), now=69)
        .restart()
        .receive(101, one.payloads[1], one.told("ignored,delivered", 100), now=70)
    )
    delivered = _all(Session("restart-after-delivery"), one, 100).restart()
    for index in range(3):
        delivered.receive(100 + index, one.payloads[index], "ignored,replay")
    delivered.receive(100 + TAGS, one.payloads[0], one.told("ignored,delivered", 100))
    _all(delivered, two, 300)
    ended = (
        Session("restart-after-a-bad-end")
        .receive(100, broken, "rejected,d,9,100,ZlibError")
        .restart()
        .receive(100 + TAGS, broken, "ignored,ended,d,9,100,2,0")
    )
    lifetime = (
        Session("restart-does-not-prolong", lifetime_s=60)
        .receive(100, one.payloads[0], one.accepted(100, 0), now=10)
        .restart()
        .time(69)
        .time(70, one.told("expired", 100))
        .restart()
        .receive(101, one.payloads[1], one.ended(100, 8), now=71)
    )
    older = (
        Session("restart-keeps-what-is-older")
        .receive(5000, one.payloads[0], one.accepted(5000, 0))
        .restart()
        .receive(101, one.payloads[1], "ignored,older-message")
        .receive(5001, one.payloads[1], one.accepted(5000, 1))
        .restart()
        .receive(5002, one.payloads[2], one.accepted(5000, 2), one.whole(5000))
    )
    window = Session("restart-keeps-the-floor", replay_window=2)
    for number in range(3):
        _all(window, Message(bytes([number]), 1, message_id=20 + number), 200 + number)
    window.restart()
    window.receive(199, one.payloads[0], "ignored,stale")
    return [middle, delivered, ended, lifetime, older, window]
