"""The examples of `docs/ship-logs.md`: a config, lines, and what `deckwatch logs tail` prints for them."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest

from deckwatch.collection.registry import Registry
from deckwatch.config.load import load_config
from deckwatch.config.log_settings import FileSettings, LokiSettings
from deckwatch.logs.preview import preview
from services import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "ship-logs.md").read_text()
_BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [(block["kind"], block["text"]) for block in _BLOCK.finditer(PAGE)]
#: Each config that is followed by lines and by what is printed for them.
EXAMPLES = [
    (config, lines, printed)
    for (first, config), (second, lines), (third, printed) in zip(BLOCKS, BLOCKS[1:], BLOCKS[2:], strict=False)
    if (first, second, third) == ("yaml", "log", "text")
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(number: int, tmp_path: Path) -> None:
    config, lines, printed = EXAMPLES[number]
    path = re.search(r'path: "(/[^"]+)"', config)
    assert path is not None
    log = tmp_path / path[1].replace("**", "a").replace("*", "app").lstrip("/")
    log.parent.mkdir(parents=True)
    log.write_text(lines)
    (tmp_path / "deckwatch.yml").write_text(config.replace('path: "/', f'path: "{tmp_path}/'))
    logs = load_config(tmp_path / "deckwatch.yml", {}, Registry.installed()).logs
    assert logs is not None
    out = io.StringIO()
    preview(logs, str(log), 10, follow=False, out=out)

    assert out.getvalue().replace(f"{tmp_path}/", "/") == printed


def test_every_example_is_a_valid_config(tmp_path: Path) -> None:
    for number, (kind, text) in enumerate(BLOCKS):
        if kind == "yaml":
            path = tmp_path / f"{number}.yml"
            path.write_text(text)
            assert load_config(path, {}, Registry.installed()).logs is not None


def test_every_setting_is_on_the_page() -> None:
    named = {
        name for cell in re.findall(r"^\| ([^|]*) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }

    assert len(EXAMPLES) == 6
    assert {*FileSettings.model_fields, *LokiSettings.model_fields} - named == set()
