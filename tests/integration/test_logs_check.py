"""`deckwatch check` on wrong settings of logs: the key, what was found, and the right form."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from log_shipping import config, following
from loki import loki
from services import deckwatch_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def checked(folder: Path, url: str, rules: Sequence[dict[str, Any]]) -> tuple[int, str]:
    """The exit code of `deckwatch check` and what it prints."""
    path = folder / "deckwatch.yml"
    path.write_text(config(url, [following(folder / "app.log", "app") | rule for rule in rules]))
    command = deckwatch_command("check", "--config", str(path), "--state-dir", str(folder / "state"))
    environ = {**os.environ, "COLUMNS": "400"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)
    return done.returncode, done.stdout + done.stderr


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"format": "regex"}, "expected pattern: a regular expression with named groups"),
    ({"format": "regex", "pattern": "("}, ".pattern: found '('; expected a regular expression"),
    ({"format": "regex", "pattern": "^x"}, "a named group for each field"),
    ({"pattern": "(?P<x>.)"}, "pattern only with format: regex"),
    ({"inner_format": "json"}, "inner_format only with format: cri or format: docker"),
    ({"format": "docker", "inner_format": "cri"}, ".inner_format: found 'cri'"),
    ({"parse": [{"field": "x", "format": "regex"}]}, ".parse[0]"),
    ({"fields": {"x": "a..b"}}, ".fields.x: found 'a..b'; expected a JMESPath expression"),
    ({"fields": {"x": "@timestamp"}}, "names such as @timestamp in double quotes"),
    ({"fields": {"x": "upper(a)"}}, "a function of JMESPath, not upper()"),
    ({"fields": {"line": "a"}}, "line is the whole text"),
    ({"timezone": "Mars/Olympus"}, "a time zone that the machine knows"),
    ({"encoding": "utf-9"}, ".encoding: found 'utf-9'; expected an encoding such as"),
    ({"encoding": "cp037"}, "expected an encoding such as"),  # its line feeds are other bytes
    ({"output": "{message"}, ".output"),
    ({"output": "message"}, "at least one field in braces"),
    ({"format": "regex", "pattern": "(?P<msg>.*)", "output": "{message}"}, "fields: msg, line; there is no message"),
    ({"drop": [{}]}, "drop[0]: found an empty mapping; expected matches, match, older_than or longer_than"),
    ({"labels": {"__tenant_id__": "x"}}, "set tenant_field"),
    ({"start_at": "tail"}, "one of 'beginning' or 'end'"),
    ({"ignore_older": "soon"}, ".ignore_older"),
]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    code, text = checked(tmp_path_factory.mktemp("check"), "http://127.0.0.1:9", [rule for rule, _ in WRONG])
    assert code == 2
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("number", range(len(WRONG)), ids=lambda number: str(WRONG[number][0]))
def test_a_wrong_setting_is_reported_with_the_right_form(number: int, printed: str) -> None:
    reports = [line for line in printed.splitlines() if f"logs.files[{number}]" in line]
    assert any(WRONG[number][1] in line for line in reports), reports


def test_output_with_a_field_that_no_line_has_is_reported(tmp_path: Path) -> None:
    lines = [json.dumps({"message": f"m{number}", "level": "info"}) for number in range(10_000)]
    (tmp_path / "app.log").write_text("\n".join(lines) + "\n")
    with loki() as double:
        code, text = checked(tmp_path, double.url, [{"output": "{level} {mesage}"}])
        assert code == 2
        assert "output names the field mesage, which none of the last" in text
        code, text = checked(tmp_path, double.url, [{"output": "{level} {message}"}])
        assert code == 0, text
