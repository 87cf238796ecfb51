from __future__ import annotations

import pytest

from smtunnel import LocalError, labels_to_payload, payload_to_labels

FULL = "x" * 22


@pytest.mark.parametrize("length", [1, 21, 22, 23, 44, 109, 110])
def test_labels_carry_a_payload_and_give_it_back(length: int) -> None:
    payload = "".join(chr(32 + i % 95) for i in range(length))
    labels = payload_to_labels(payload)
    assert [number for number, _ in labels] == list(range(1, len(labels) + 1))
    assert all(len(text) == 22 for _, text in labels[:-1])
    assert labels_to_payload(labels) == payload


@pytest.mark.parametrize("payload", ["", "x" * 111, "tab\t", "pound \u00a3", "line\n"])
def test_what_labels_cannot_carry_is_the_callers_error(payload: str) -> None:
    with pytest.raises(LocalError):
        payload_to_labels(payload)


@pytest.mark.parametrize(
    "labels",
    [
        [],
        [(2, FULL)],
        [(1, FULL), (3, FULL)],
        [(2, FULL), (1, FULL)],
        [(1, "short"), (2, FULL)],
        [(1, FULL), (2, "")],
        [(1, "")],
        [(1, "x" * 23)],
        [(0, FULL)],
        [(number, FULL) for number in range(1, 7)],
        [(1, "bell\a")],
        [(1, "end\n")],
    ],
)
def test_somebodys_real_labels_carry_no_payload(labels: list[tuple[int, str]]) -> None:
    assert labels_to_payload(labels) is None
