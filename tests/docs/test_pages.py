"""The pages of the documentation: their links, their examples, and where they are listed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from typing import TYPE_CHECKING

import pytest
import yaml

from deckwatch.cli import complete_parser
from deckwatch.cli.catalogue import catalogue
from deckwatch.collection.registry import Registry
from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType


def _reference() -> ModuleType:
    """docs/reference.py, which is no package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _reference()

FOLDERS = ("agent", "alerts", "dashboards", "demo", "deploy", "docs", "examples", "exporters", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _anchors(page: Path) -> set[str]:
    """The names that links to a page can have after `#`, as Git hosts and mkdocs make them from headings."""
    text = _FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_resolves(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


def test_the_index_lists_every_page() -> None:
    listed = set(_LINK.findall((ROOT / "docs" / "README.md").read_text()))

    assert not {page.name for page in (ROOT / "docs").glob("*.md")} - listed - {"README.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if "```yaml" in page.read_text()], ids=lambda page: page.name)
def test_every_example_in_yaml_parses(page: Path) -> None:
    for example in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        list(yaml.safe_load_all(example))


def _commands(page: Path) -> list[str]:
    """The commands of Deckwatch in a page's examples and texts."""
    text = page.read_text()
    blocks = [
        *_FENCE.findall(text),
        *re.findall(r"^    .*$", text, re.MULTILINE),
        *re.findall(r"`deckwatch [^`\n]+`", text),
    ]
    found = re.findall(r"(?:^|[`/]|(?<!from) )deckwatch ([a-z][^`#|&\n]*)", "\n".join(blocks), re.MULTILINE)
    return sorted({command.strip() for command in found})


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_command_is_one_that_deckwatch_has(page: Path) -> None:
    parser = complete_parser()
    for command in _commands(page):
        words = [word for word in shlex.split(command.replace("...", "")) if word != "COMMAND"]
        with contextlib.redirect_stderr(io.StringIO()) as complaint, contextlib.suppress(SystemExit):
            parser.parse_args(words)
        is_whole = " " in command and "COMMAND" not in command
        wrong = "unrecognized|invalid choice" + ("|are required" if is_whole and "--" in command else "")
        assert not re.search(wrong, complaint.getvalue()), command


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_metric_of_the_agent_is_in_the_catalogue(page: Path) -> None:
    known = {entry.row[0] for entry in catalogue(Registry.installed())}
    named = set(re.findall(r"`(deckwatch_[a-z_]+)`", page.read_text()))

    assert not {name for name in named if name not in known and not name.endswith("_")}


@pytest.mark.parametrize("name", ["metrics.md", "settings.md", "commands.md"])
def test_the_reference_is_up_to_date(name: str) -> None:
    page = ROOT / "docs" / "reference" / name

    assert page.read_text() == reference.pages()[name], "run: python docs/reference.py"


def test_every_event_of_the_agent_is_documented_and_every_documented_event_exists() -> None:
    documented = set(re.findall(r"^\| `([a-z_.]+)` \|", (ROOT / "docs/reference/events.md").read_text(), re.MULTILINE))

    assert documented == set(_events())


def _events() -> Iterator[str]:
    """The names of events in the code: values of `event` in what a log call gets, and what Context.event() is given."""
    for folder in ("agent/deckwatch", "exporters/deckwatch_exporters"):
        for file in (ROOT / folder).rglob("*.py"):
            source = file.read_text()
            if "sdk" not in file.parts and file != ROOT / "agent/deckwatch/__init__.py":
                yield from re.findall(r'"event": "([a-z_.]+)"', source)
            yield from re.findall(r'\.event\(\s*"([a-z_.]+)"', source)
            yield from re.findall(r'^_FAILED = "([a-z_.]+)"', source, re.MULTILINE)
            yield from re.findall(r'self\._log\(logging\.[A-Z]+, "([a-z_.]+)"', source)
