"""What the accounts say of a message, and that nothing wrong goes by unseen."""

from __future__ import annotations

import pytest

from lab.virtual_accounts import WRONG, Accounts, Fate
from smtunnel import DeliveryState, MessageStatus

MESSAGE = b"down 0 cem-0 to cem-0\n..."
NAME = "down 0 cem-0 to cem-0"


def status(state, reason=None):
    return MessageStatus(
        ref="r", state=state, reason=reason, fragments_total=1, message_octets=1, first_counter=1
    )


def make(*refs, given=None, **facts):
    accounts = Accounts()
    account = accounts.open(NAME, MESSAGE)
    for name, value in facts.items():
        setattr(account, name, value)
    account.status = given
    for ref in refs:
        accounts.arrived("cem-0", ref, MESSAGE, 1.0)
    return accounts


DONE = status(DeliveryState.REASSEMBLED)
FAILED = status(DeliveryState.FAILED, "E65 after 3 attempts")
NOT_KNOWN = status(DeliveryState.FAILED, "no receipt; not known whether it has arrived")
WHETHER = status(DeliveryState.FAILED, "whether the device has the fragment is not known")


@pytest.mark.parametrize(
    ("refs", "given", "facts", "fate"),
    [
        ("a", DONE, {}, Fate.DELIVERED),
        ("a", status(DeliveryState.ANSWERED), {}, Fate.DELIVERED),
        ("", DONE, {}, Fate.LOST),
        ("ab", DONE, {}, Fate.DOUBLED),
        ("ab", FAILED, {}, Fate.DOUBLED),
        ("ab", None, {"unpromised": True}, Fate.DOUBLED),
        ("", FAILED, {}, Fate.FAILED),
        ("a", FAILED, {}, Fate.DENIED),
        ("", NOT_KNOWN, {}, Fate.UNSURE),
        ("a", NOT_KNOWN, {}, Fate.UNSURE_DELIVERED),
        ("a", WHETHER, {}, Fate.UNSURE_DELIVERED),
        ("", None, {"refusal": "too many"}, Fate.REFUSED),
        ("a", None, {"refusal": "too many"}, Fate.DENIED),
        ("", None, {"unpromised": True}, Fate.UNPROMISED),
        ("a", None, {"unpromised": True}, Fate.UNPROMISED_DELIVERED),
        ("", status(DeliveryState.ACCEPTED), {}, Fate.UNENDED),
        ("a", None, {}, Fate.UNENDED),
    ],
)
def test_fates(refs, given, facts, fate):
    accounts = make(*refs, given=given, **facts)
    ((found, _), _) = accounts.outcomes().popitem()
    assert found is fate
    assert bool(accounts.wrong()) is (fate in WRONG)


def test_what_comes_again_before_its_ack_is_no_double_and_after_it_is():
    accounts = make("a", "a", given=DONE)
    assert accounts.given_out_again == 1
    assert not accounts.wrong()
    accounts.acknowledged("cem-0", "a")
    accounts.arrived("cem-0", "a", MESSAGE, 2.0)
    assert "DOUBLED" in accounts.wrong()[0]


@pytest.mark.parametrize(("where", "octets"), [("cem-1", MESSAGE), ("cem-0", MESSAGE + b"!")])
def test_what_nobody_sent_there_is_wrong(where, octets):
    accounts = make("a", given=DONE)
    accounts.arrived(where, "b", octets, 2.0)
    assert "nobody sent" in accounts.wrong()[0]


def test_numbers_do_not_keep_reasons_apart():
    accounts = Accounts()
    for number in range(2):
        account = accounts.open(f"up {number} cem-1 to dsrsp", bytes([number]))
        reason = f"fragment {number} of 3: 02-53-4D-54-10-00-00-0{number} was away {number}.5 s"
        account.status = status(DeliveryState.FAILED, reason)
    assert accounts.outcomes() == {(Fate.FAILED, "fragment … of …: … was away … s"): 2}
