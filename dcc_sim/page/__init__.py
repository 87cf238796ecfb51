"""The page to look at: files that a browser gets from the simulator, and nothing from elsewhere.

Served without a token: it shows nothing before somebody has typed one in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

_FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/diagram.js": ("diagram.js", "text/javascript"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(app: web.Application) -> None:
    """Serve the page at "/"."""
    for path, (name, content_type) in _FILES.items():
        octets = resources.files(__package__).joinpath(name).read_bytes()
        app.router.add_get(path, _serve(octets, content_type))


def _serve(
    octets: bytes, content_type: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=octets, content_type=content_type, charset="utf-8", headers=_HEADERS
        )

    return serve
