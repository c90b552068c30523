"""Runs pytest with the entry point of Deckwatch's fixtures, whether or not the environment was installed with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

from services import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests in a folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = folder / "site/shop-1.0.dist-info"
    installed.mkdir(parents=True, exist_ok=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    entries = "\n".join(f"{name} = {module}" for name, module in project["entry-points"]["pytest11"].items())
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{entries}\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'agent'}:{folder / 'site'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
