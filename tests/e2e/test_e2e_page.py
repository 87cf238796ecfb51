"""The simulator's page in a real browser: Debian's Chromium, on a system with traffic."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from lab.local_system import LocalSystem

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
THRESHOLD = 'thresholds = [{ service_reference_variant = "6.14.1", limit = 3, period_s = 1e9 }]'


def missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and without it nobody tries the page")
    pytest.skip(what)


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Open pages, each with a profile of its own; a page that complains fails the test."""
    try:
        from playwright.async_api import async_playwright
    except ModuleNotFoundError:
        missing("the package playwright is not installed (extra 'dev')")
    if not CHROMIUM.exists():
        missing(f"there is no {CHROMIUM} (Debian: apt-get install chromium)")
    complaints: list[str] = []
    async with async_playwright() as playwright:
        count = 0

        async def open_page(url: str, **options: Any) -> Any:
            nonlocal count
            count += 1
            context = await playwright.chromium.launch_persistent_context(
                tmp_path / f"profile-{count}",
                executable_path=CHROMIUM,
                headless=True,
                args=FLAGS,
                **options,
            )
            page = context.pages[0]
            page.set_default_timeout(20_000)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda message: (
                    complaints.append(message.text)
                    if message.type == "error" and "status of 401" not in message.text
                    else None
                ),
            )
            page.on(
                "request",
                lambda request: (
                    None if request.url.startswith(url) else complaints.append(request.url)
                ),
            )
            await page.goto(url + "/")
            return page

        yield open_page
    assert complaints == []


async def enter(page: Any, system: LocalSystem) -> None:
    await page.get_by_label("Token of the admin interface").fill("not the token, surely")
    await page.keyboard.press("Enter")
    await page.get_by_text("This is not the token").wait_for()
    token = system.token_file("dcc-sim").read_text(encoding="utf-8").strip()
    await page.get_by_label("Token of the admin interface").fill(token)
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Counters").wait_for()


async def choose(page: Any, name: str) -> None:
    # By keyboard alone: the list is made of buttons.
    row = page.locator("#journeys button", has=page.get_by_text(name, exact=True))
    await row.focus()
    await page.keyboard.press("Enter")
    await page.locator("#journey-title", has_text=name).wait_for()


async def test_the_page_shows_journeys_quarantine_and_faults(
    new_system: Callable[..., LocalSystem], browser: Callable[..., Any]
) -> None:
    async with (
        new_system(settings={"supplier": THRESHOLD}) as system,
        system.control("dsrsp") as dsrsp,
        system.control("cem") as cem,
    ):
        page = await browser(system.duis_url())
        await enter(page, system)
        await cem.send(b"<script>alert(1)</script>")
        await page.locator("#journeys button", has_text="Alert").first.wait_for()
        await choose(page, "Alert ↑ 1")
        assert await page.locator("#diagram svg .title").count() >= 3
        await page.locator("#journey-facts", has_text="taken by the user").wait_for()

        await page.get_by_role("button", name="Lose the next alert").click()
        await page.get_by_text("drop the next 1 on the hop alert").wait_for()
        await cem.send(b"lost")
        await page.locator("#journeys button", has_text="alert lost").first.wait_for()
        await page.get_by_text("No fault waits.").wait_for()

        await dsrsp.send(os.urandom(400), to=system.identities.device_id)
        release = page.get_by_role("button", name="Release event").first
        await release.wait_for()
        await page.get_by_role("button", name="Show the journey of event").first.click()
        await page.locator("#journey-facts", has_text="in quarantine").wait_for()
        await release.click()
        await page.locator("#journey-facts", has_text="taken by the user").wait_for()
        await page.locator("#steps li", has_text="quarantine: released").wait_for()
        await page.locator("#steps summary").first.click()
        assert "<?xml" in await page.locator("#steps pre").first.inner_text()
        assert await page.evaluate("document.scripts.length") == 2

        await page.get_by_role("button", name="Restart the DCC").click()
        await page.locator("#connection", has_text="no answer yet").wait_for()
        await page.locator("#connection", has_text="connected,").wait_for()
        await page.get_by_role("button", name="Forget the token").click()
        await page.get_by_role("heading", name="Token").wait_for()
        assert await page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_phone_and_names_its_fields(
    new_system: Callable[..., LocalSystem], browser: Callable[..., Any], scheme: str
) -> None:
    async with new_system() as system, system.control("cem") as cem:
        page = await browser(
            system.duis_url(), viewport={"width": 360, "height": 740}, color_scheme=scheme
        )
        await enter(page, system)
        await cem.send(b"from the phone's house")
        await page.locator("#journeys button", has_text="Alert").first.wait_for()
        await choose(page, "Alert ↑ 1")
        await page.locator("#fault-form").locator("..").locator("summary").click()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        nameless = await page.evaluate(
            """[...document.querySelectorAll("input, select, button")].filter((field) =>
                 !(field.labels && field.labels.length) && !field.textContent.trim()
                 && !field.getAttribute("aria-label")).map((field) => field.outerHTML)"""
        )
        assert nameless == []
        back, text = await page.evaluate(
            """[getComputedStyle(document.body).backgroundColor,
                getComputedStyle(document.body).color]"""
        )
        brighter = [sum(map(int, c[4:-1].split(","))) for c in (back, text)]
        assert (brighter[0] > brighter[1]) == (scheme == "light")
