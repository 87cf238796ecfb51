"""What is said of a connection that did not come about."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from dsrsp.connecting import connect_reason


async def test_a_refused_connection_is_told_in_the_systems_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await session.get(f"http://127.0.0.1:{port}/")
    assert connect_reason(refused.value) == "Connection refused"


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError("no such host"), "no such host"), (TimeoutError(), "TimeoutError")],
)
def test_of_other_failures_all_is_said_that_is_known(error: Exception, words: str) -> None:
    assert connect_reason(error) == words
