"""Posts DUIS messages to the users' receive addresses."""

from __future__ import annotations

import asyncio

import aiohttp

from dcc_sim.core.effects import Post
from dcc_sim.engine import Engine
from dcc_sim.http_services import CONTENT_TYPE


class Poster:
    """Begins POSTs and reports how each ended.

    Args:
        timeout_s: how long one POST may take, in seconds.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._engine: Engine | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            # How many go to one user at once is the outbox's affair.
            connector=aiohttp.TCPConnector(limit=0),
        )

    def start(self, engine: Engine) -> None:
        """Report to this engine from now on."""
        self._engine = engine

    def post(self, post: Post) -> None:
        """Begin a POST."""
        task = asyncio.get_running_loop().create_task(self._run(post))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Break off what is under way; it will be posted again after a restart."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def _run(self, post: Post) -> None:
        reason, reached = await self._try(post)
        if self._engine is None:
            return
        if reason is None:
            self._engine.posted(post.posting_id)
        else:
            self._engine.post_failed(post.posting_id, reason, reached=reached)

    async def _try(self, post: Post) -> tuple[str | None, bool]:
        """POST once; return why it failed, None if it did not, and whether the user answered."""
        try:
            async with self._session.post(
                post.url,
                data=post.xml,
                headers={"Content-Type": CONTENT_TYPE},
                allow_redirects=False,
            ) as response:
                status = response.status
        except TimeoutError:
            return f"{post.url} did not answer in time", False
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"{post.url}: {type(error).__name__}: {error}", False
        if 200 <= status < 300:
            return None, True
        return f"{post.url} answered {status}", True
