"""Lower bounds keep out versions of libraries with known vulnerabilities, and every attack names its tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from services import ROOT

FOLDER = Path(__file__).parent


def _agent() -> dict[str, Requirement]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = [Requirement(text) for texts in extras.values() for text in texts]
    return {requirement.name: requirement for requirement in found if not requirement.name.startswith("deckwatch")}


@pytest.mark.parametrize(
    ("library", "vulnerable", "why"),
    [
        ("h11", "0.14.0", "malformed chunked bodies are accepted (CVE-2025-43859)"),
        ("starlette", "0.49.0", "a Range header takes quadratic time (CVE-2025-62727)"),
        ("hiredis", "3.4.0", "nesting in replies is not limited"),
        ("jinja2", "3.1.2", "names of attributes are not escaped (CVE-2024-22195)"),
        ("pyyaml", "5.3.1", "unsafe loading (CVE-2020-14343)"),
    ],
)
def test_a_vulnerable_version_of_a_library_cannot_be_installed(library: str, vulnerable: str, why: str) -> None:
    assert not _agent()[library].specifier.contains(vulnerable), why


def test_every_module_of_attacks_is_in_the_table_and_every_module_in_the_table_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", (FOLDER / "README.md").read_text()))
    assert named == {path.name for path in FOLDER.glob("test_*.py")}
