"""The wording check finds what it should, where it should, and leaves code alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services import ROOT
from wording import ALLOWED, check, misspelled

LONG = " ".join(["word"] * 36)


@pytest.mark.parametrize(
    "text",
    [
        "It mends the file.",
        "Seldom used.",
        "It runs for ever.",
        "The one whose turn it is.",
        "The end thereof.",
        "It tells of a fault.",
        "Ten at the most.",
        "An entry that is none is left out.",
        "The colour is synchronised.",
    ],
)
def test_a_word_to_avoid_is_reported_with_its_line(text: str) -> None:
    found = check("a.md", f"# Title\n\n{text}\n")

    assert found
    assert {finding.line for finding in found} == {3}


def test_plain_words_pass() -> None:
    assert check("a.md", "Fix the file. Recommend amending the commentary, whole endeavors included.\n") == []


def test_code_in_markdown_is_not_prose() -> None:
    assert check("a.md", "Run `mend whom` now:\n\n```sh\nmend whom\n```\n") == []


def test_comments_docstrings_and_literals_of_python_are_prose_and_names_are_not() -> None:
    source = '"""Mend it."""\n\nmend = 1  # seldom\ntext = "for ever"\n'

    assert [finding.line for finding in check("a.py", source)] == [1, 3, 4]


def test_a_long_sentence_is_reported_in_markdown_only() -> None:
    assert [finding.line for finding in check("a.md", f"Short.\n\n- {LONG}.\n")] == [3]
    assert check("a.yml", f"# {LONG}\n") == []
    assert check("a.md", f"| {LONG} |\n|---|\n") == []


def test_two_sentences_are_not_one() -> None:
    half = " ".join(["word"] * 20)
    assert check("a.md", f"{half}. {half}.\n\n- {half}\n- {half}\n") == []


def test_each_exception_has_a_reason_and_concerns_a_file() -> None:
    for allowed in ALLOWED:
        assert allowed.reason
        assert list(ROOT.glob(allowed.files)), allowed.files


def test_a_misspelled_word_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("This is teh text.\n")

    assert "teh ==> the" in misspelled([path])[0]


def test_a_path_that_git_does_not_know_is_a_clear_error() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/wording.py", "no-such-folder"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "no-such-folder" in done.stderr
