"""The Python examples in the pages on the application library run."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sdk.dependency_apps import IS_INSTALLED, MISSING, DependencyApp
from sdk.pytest_entry import run_pytest
from services import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = (
    "get-started.md",
    "applications.md",
    "application-logs.md",
    "application-tests.md",
    "celery.md",
    "cron-jobs.md",
)
#: Pages with examples of libraries in an environment of their own.
PAGES_ON_LIBRARIES = ("dependencies.md",)


def examples_of(page: str) -> list[str]:
    examples = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    assert examples
    return examples


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    for example in examples_of(page):
        if "def test_" in example:
            (tmp_path / "test_example.py").write_text(example)
            done = run_pytest(tmp_path)
        else:
            done = subprocess.run(
                [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
            )
        assert done.returncode == 0, f"{example}\n{done.stdout}{done.stderr}"


@pytest.mark.skipif(not IS_INSTALLED, reason=MISSING)
@pytest.mark.parametrize("page", PAGES_ON_LIBRARIES)
def test_the_examples_of_a_page_on_libraries_run_and_log_nothing(page: str, tmp_path: Path) -> None:
    for example in examples_of(page):
        with DependencyApp(tmp_path, example) as app:
            app.end()
            assert not app.errors
