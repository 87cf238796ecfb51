"""One end of Stream 1 as a process of its own: it posts what it is told and says what it hears.

``python -m lab.study.stream_1_end SERVES ASKS`` serves with the certificates of the folder SERVES
and asks with those of ASKS. Both ways are JSON lines. Standard output, first where it listens, then
what happens, with the wall clock::

    {"url": "https://127.0.0.1:40123/OpenADR2/Simple/2.0b/EiEvent"}
    {"connected": true}
    {"heard": 1027, "t": 1790000000.2}
    {"posting": 1, "t": 1790000000.1}    {"answered": 1, "t": 1790000000.3}

Standard input, first the other end, then messages, each posted after the one before::

    {"url": "https://127.0.0.1:40124/...", "keep": true}
    {"ref": 1, "message": "BASE64"}

It ends when standard input does: whoever started it has ended, in whichever way.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.stream_1 import Answerer, Asker, client_tls, server_tls

_LONGEST_LINE = 1 << 20
_ANSWER = b"<oadrResponse/>"


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


async def _lines() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


async def _live(serves: Path, asks: Path) -> None:
    def heard(octets: int) -> None:
        if octets:  # else it is what sets up the connection
            _say(heard=octets, t=time.time())

    async with Answerer(server_tls(serves), _ANSWER, heard=heard) as answerer:
        _say(url=answerer.url)
        lines = _lines()
        other = await anext(lines, None)
        if other is None:
            return
        async with Asker(other["url"], client_tls(asks), keep=other["keep"]) as asker:
            if other["keep"]:
                await asker.ask(b"")
            _say(connected=True)
            async for line in lines:
                _say(posting=line["ref"], t=time.time())
                await asker.ask(base64.b64decode(line["message"]))
                _say(answered=line["ref"], t=time.time())


def main() -> int:
    """Be one end until standard input ends; an error is one line on standard error."""
    serves, asks = (Path(argument) for argument in sys.argv[1:])
    try:
        asyncio.run(_live(serves, asks))
    except LabError as error:
        print(f"Stream 1: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
