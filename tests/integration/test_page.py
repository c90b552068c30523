"""The status page in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, sync_playwright

from services import Program, agent, installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[Page, Program]]:
    with agent(tmp_path) as program, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed("chromium"), args=CHROMIUM_FLAGS)
        yield browser.new_page(), program
        browser.close()


def test_the_page_shows_every_collector_and_loads_nothing_external(page: tuple[Page, Program]) -> None:
    browser, program = page
    complaints: list[str] = []
    requested: list[str] = []
    browser.on("console", lambda message: complaints.append(message.text))
    browser.on("request", lambda request: requested.append(request.url))

    browser.goto(program.url + "/")

    assert "All" in browser.inner_text("p strong")
    assert browser.locator("tbody tr").count() > 40
    assert "system.cpu" in browser.inner_text("table")
    # The browser requests an icon by itself; there must be no other request besides the page.
    assert [url for url in requested if not url.endswith("/favicon.ico")] == [program.url + "/"]
    # The browser logs styles that the content security policy blocks.
    assert not [text for text in complaints if "favicon" not in text and "404" not in text]
    assert browser.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"


def test_the_page_fits_a_phone(page: tuple[Page, Program]) -> None:
    browser, program = page
    browser.set_viewport_size({"width": 375, "height": 700})

    browser.goto(program.url + "/")

    assert browser.evaluate("document.documentElement.scrollWidth") <= 375


def test_every_link_on_the_page_resolves(page: tuple[Page, Program]) -> None:
    browser, program = page
    browser.goto(program.url + "/")

    links = browser.eval_on_selector_all("nav a", "links => links.map(link => link.href)")

    assert len(links) >= 5
    for link in links:
        answer = browser.request.get(str(link))
        assert answer.status == 200, link
        assert re.match(r"text/|application/", answer.headers["content-type"])
