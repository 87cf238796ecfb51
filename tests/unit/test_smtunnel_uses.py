from __future__ import annotations

import itertools

import pytest

from smtunnel.errors import StateError
from smtunnel.events import IgnoreReason
from smtunnel.records import AbortCode
from smtunnel.uses import CONTROL_SLOT, Standing, Use, refusal, restore_uses
from smtunnel.window import Verdict

TAGS = 65_536
KEY = 10 * TAGS + 7

# Of the fragment's key against a use of key KEY whose predecessor had key KEY - 2 * TAGS - 5.
PLACES = {
    "same": KEY,
    "sent again": KEY + 3 * TAGS,
    "sent before the first that came": KEY - 2 * TAGS,
    "of an older message with the same tag": KEY - 3 * TAGS,
    "of an older message": KEY - 1,
    "of a newer message": KEY + 1,
}
JOINS = {"same", "sent again", "sent before the first that came"}


def a_use(standing: Standing) -> Use:
    use = Use(b"peer", 5, KEY, 0.0)
    use.lowest = KEY - 2 * TAGS - 4
    use.standing = standing
    return use


@pytest.mark.parametrize(
    ("standing", "place", "verdict"), list(itertools.product([None, *Standing], PLACES, Verdict))
)
def test_every_standing_against_every_fragment(
    standing: Standing | None, place: str, verdict: Verdict
) -> None:
    use = None if standing is None else a_use(standing)
    found = refusal(use, PLACES[place], verdict)
    if verdict is Verdict.REUSED:
        assert found is IgnoreReason.COUNTER_REUSED
    elif use is None:
        assert found is (None if verdict is Verdict.NEW else IgnoreReason.STALE)
    elif place in JOINS:
        assert found is {
            Standing.PARTIAL: None,
            Standing.ENDED: IgnoreReason.ENDED,
            Standing.DELIVERED: (
                IgnoreReason.DELIVERED if verdict is Verdict.NEW else IgnoreReason.REPLAY
            ),
        }.get(use.standing)
    elif place == "of a newer message":
        assert found is None
    else:
        replay = verdict is Verdict.REPLAY
        assert found is (IgnoreReason.REPLAY if replay else IgnoreReason.OLDER_MESSAGE)


def test_saved_and_restored() -> None:
    use = Use(b"peer", CONTROL_SLOT | 9, 2**64 - 1, 1234.5)
    use.lowest, use.standing = 2**63, Standing.ENDED
    use.code, use.detail = AbortCode.UNKNOWN_DICTIONARY, 0xDEADBEEF
    [again] = restore_uses(b"peer", use.to_bytes())
    assert again.to_bytes() == use.to_bytes()
    assert (again.message_id, again.control, again.started_at) == (9, True, 1234.5)
    assert restore_uses(b"peer", use.to_bytes() * 3)[2].key == use.key


@pytest.mark.parametrize("place", [None, 2, 3])
def test_saved_state_that_is_not_ours_is_refused(place: int | None) -> None:
    saved = bytearray(Use(b"peer", 1, 2, 3.0).to_bytes())
    if place is None:
        saved.append(0)
    else:
        saved[place] = 99
    with pytest.raises(StateError):
        restore_uses(b"peer", bytes(saved))
