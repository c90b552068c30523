"""The status page in a real browser."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from databases import redis_server
from services import Program, agent, free_port, installed

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=installed("chromium"), args=CHROMIUM_FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """An agent whose Redis is down."""
    config = f"""
exporters:
  system: {{}}
  redis: [{{name: cache, url: "redis://127.0.0.1:{free_port()}/0"}}]
"""
    with agent(tmp_path_factory.mktemp("agent"), config) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(bypass_csp=False)
    yield context.new_page()
    context.close()


def test_the_page_shows_targets_and_collectors_and_loads_nothing_else(page: Page, program: Program) -> None:
    complaints: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: requested.append(request.url))

    page.goto(program.url + "/")

    assert page.inner_text(".headline") == "\u2717 1 of 2 targets is down"
    assert page.locator("article").first.inner_text().startswith("cache")
    assert page.locator("tbody tr").count() > 40
    assert "system.cpu" in page.inner_text("table")
    # The icon is a data URL. There must be no other request besides the page.
    assert [url for url in requested if not url.startswith("data:")] == [program.url + "/"]
    # The browser logs styles and scripts that the content security policy blocks.
    assert complaints == []
    assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(browser: Browser, program: Program, scheme: Literal["light", "dark"]) -> None:
    axe = Path(sys.prefix, "axe", "node_modules", "axe-core", "axe.min.js")
    if not axe.exists():
        pytest.skip("axe-core is not installed; tests/install-npm.sh installs it where there is npm")
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # axe-core is a script that the policy blocks
    page = context.new_page()
    page.goto(program.url + "/")
    page.add_script_tag(path=axe)

    result = page.evaluate("axe.run()")

    assert [(it["id"], [node["html"][:200] for node in it["nodes"][:3]]) for it in result["violations"]] == []
    context.close()


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_the_page_fits_a_phone_and_hides_nothing(page: Page, program: Program, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})

    page.goto(program.url + "/")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    error = page.locator("td.error:not(:empty)").first.bounding_box()
    assert error is not None
    assert error["x"] >= 0
    assert error["x"] + error["width"] <= width


def test_the_table_is_filtered_while_typing(page: Page, program: Program) -> None:
    page.goto(program.url + "/")

    page.fill("input[name=q]", "cache")

    rows = page.locator("tbody tr:visible")
    assert 0 < rows.count() < 5
    assert all("cache" in text for text in rows.all_inner_texts())


def test_without_javascript_the_page_works_and_is_filtered_by_its_form(browser: Browser, program: Program) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(program.url + "/")

    page.fill("input[name=q]", "cache")
    page.select_option("select[name=state]", "failing")
    page.click("button")

    assert page.locator("tbody tr").count() == 1
    assert page.input_value("input[name=q]") == "cache"
    context.close()


def test_the_page_updates_itself_and_says_when_it_cannot(page: Page, tmp_path: Path) -> None:
    with redis_server(tmp_path, start=False) as redis:
        config = f"""
interval: 1s
exporters:
  redis: [{{name: cache, url: "{redis.url}"}}]
"""
        with agent(tmp_path, config) as program:
            page.goto(program.url + "/")
            assert page.inner_text(".headline").endswith("is down")
            redis.start()
            page.get_by_text("Everything works").wait_for(timeout=60_000)
    page.locator("#stale").wait_for(timeout=60_000)
    assert page.inner_text("#stale").startswith("Deckwatch does not respond.")


def test_every_link_on_the_page_resolves(page: Page, program: Program) -> None:
    page.goto(program.url + "/")

    links = page.eval_on_selector_all("nav a", "links => links.map(link => link.href)")

    assert len(links) >= 5
    for link in links:
        answer = page.request.get(str(link))
        assert answer.status == 200, link
        assert re.match(r"text/|application/", answer.headers["content-type"])


def test_a_page_of_a_thousand_targets_shows_the_worst_first(page: Page, tmp_path: Path) -> None:
    targets = "".join(
        f'\n    - {{name: r{n:04}, url: "redis://127.0.0.1:{free_port()}/0"}}' for n in range(2)
    ) + "".join(f'\n    - {{name: s{n:04}, url: "unix://{tmp_path}/none.sock"}}' for n in range(998))
    with agent(tmp_path, f"exporters:\n  system: {{}}\n  redis:{targets}\n") as program:
        page.goto(program.url + "/")

        assert page.inner_text(".headline") == "\u2717 1000 of 1001 targets are down"
        assert page.locator("#targets article").count() < 100
        assert "more redis targets" in page.inner_text("#targets")
