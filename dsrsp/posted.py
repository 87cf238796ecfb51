"""What is answered to the DCC's posts, whatever brings them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from dsrsp.errors import ReceivedRefused, StorageError

logger = logging.getLogger("dsrsp")

Receive = Callable[[bytes], None]
"""Takes one posted message in, or raises ReceivedRefused or StorageError."""


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """An HTTP answer: its status, and a line that says what is wrong."""

    status: HTTPStatus
    text: str = ""


def take_posted(receive: Receive, body: bytes, *, sender: str | None) -> PostAnswer:
    """Give a posted message to who takes it, and say what to answer.

    Args:
        receive: takes it in.
        body: what was posted.
        sender: by whom, for the log.

    Returns:
        204 when it is taken (durably, where it matters), 400 when it is refused, 503 when it
        cannot be stored just now, so that the DCC tries again.
    """
    try:
        receive(body)
    except ReceivedRefused as refusal:
        logger.warning("refused a message posted by %s: %s", sender, refusal)
        return PostAnswer(HTTPStatus.BAD_REQUEST, f"{refusal}\n")
    except StorageError as error:
        logger.error("could not store a message posted by %s: %s", sender, error)
        return PostAnswer(HTTPStatus.SERVICE_UNAVAILABLE, "cannot be stored now; try again\n")
    return PostAnswer(HTTPStatus.NO_CONTENT)
