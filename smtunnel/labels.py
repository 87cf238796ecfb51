"""The five labels of an ECS46a command and the payload they carry together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from smtunnel.errors import LocalError

LABEL_CHARS: Final = 22
MAX_LABELS: Final = 5
_PRINTABLE: Final = re.compile(r"[ -~]*")


def payload_to_labels(payload: str) -> tuple[tuple[int, str], ...]:
    """Spread a payload over labels 1 to n; only the last may be shorter than 22 characters.

    Args:
        payload: 1 to 110 printable characters.

    Returns:
        Pairs of label index (1 to 5) and text.

    Raises:
        LocalError: empty, too long, or not printable.
    """
    if not 1 <= len(payload) <= LABEL_CHARS * MAX_LABELS:
        raise LocalError(
            f"a payload of {len(payload)} characters does not fit: {MAX_LABELS} labels carry "
            f"1 to {LABEL_CHARS * MAX_LABELS}"
        )
    if not _PRINTABLE.fullmatch(payload):
        raise LocalError("a label takes only the printable characters from space to tilde")
    starts = range(0, len(payload), LABEL_CHARS)
    return tuple(
        (number, payload[start : start + LABEL_CHARS]) for number, start in enumerate(starts, 1)
    )


def labels_to_payload(labels: Sequence[tuple[int, str]]) -> str | None:
    """Join labels to the payload they carry, if they can carry one.

    Args:
        labels: pairs of label index and text, as the command has them.

    Returns:
        The payload, or None when these are somebody's real labels: not 1 to n in order, one but
        the last not exactly 22 characters, empty, too long, or not printable.
    """
    if not 1 <= len(labels) <= MAX_LABELS:
        return None
    for position, (number, text) in enumerate(labels, 1):
        full = len(text) == LABEL_CHARS
        short_end = position == len(labels) and 1 <= len(text) < LABEL_CHARS
        if number != position or not (full or short_end) or not _PRINTABLE.fullmatch(text):
            return None
    return "".join(text for _, text in labels)
