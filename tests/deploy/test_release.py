"""Packages: the same bytes each time, and an upgrade that keeps config and state."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from loki import Fault, loki
from services import ROOT, Program, fetch, free_port, running, until

if TYPE_CHECKING:
    import contextlib

BUILDER = Path(sys.prefix) / "release" / "bin" / "python"
PARTS = ("agent", "exporters", "dashboards", "alerts")


def source(folder: Path, version: str = "") -> Path:
    """A copy of what packages are made of, with another version if one is given."""
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / file, folder / file)
    module = folder / "agent/deckwatch/__init__.py"
    if version:
        module.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', module.read_text()))
    return folder


def build(folder: Path, output: Path) -> dict[str, bytes]:
    if not BUILDER.exists():
        pytest.skip("build and hatchling are not installed. Run: make services")
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [str(BUILDER), "-m", "build", "-q", "-n", "-o", str(output)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {file.name: file.read_bytes() for file in output.iterdir()}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return build(source(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("dist"))


def test_two_builds_have_the_same_bytes(packages: dict[str, bytes], tmp_path: Path) -> None:
    again = build(source(tmp_path / "elsewhere"), tmp_path / "dist")

    assert again == packages
    assert len(packages) == 2, "a wheel and an sdist"


def test_the_wheel_carries_what_the_commands_need(packages: dict[str, bytes], tmp_path: Path) -> None:
    (name,) = (name for name in packages if name.endswith(".whl"))
    (tmp_path / name).write_bytes(packages[name])
    names = set(zipfile.ZipFile(tmp_path / name).namelist())

    for folder, pattern in (("dashboards", "dashboards/*.json"), ("alerts", "alerts/*.rules.yml")):
        shipped = {f"deckwatch/pack/data/{folder}/{file.name}" for file in ROOT.glob(pattern)}
        assert shipped <= names
    assert any(name.startswith("deckwatch/status_page/templates/") for name in names)
    assert not [name for name in names if "test" in name.split("/")[0]]


def test_an_upgrade_keeps_config_positions_and_lines_that_wait(packages: dict[str, bytes], tmp_path: Path) -> None:
    older = build(source(tmp_path / "older", "0.0.1"), tmp_path / "older-dist")
    installed, state, log = tmp_path / "installed", tmp_path / "state", tmp_path / "app.log"
    port = free_port()

    def install(found: dict[str, bytes]) -> None:
        shutil.rmtree(installed, ignore_errors=True)
        (name,) = (name for name in found if name.endswith(".whl"))
        (tmp_path / name).write_bytes(found[name])
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(installed)]
        subprocess.run([*pip, str(tmp_path / name)], check=True)

    def agent() -> contextlib.AbstractContextManager[Program]:
        command = [sys.executable, "-m", "deckwatch", "run", "--config", str(tmp_path / "deckwatch.yml")]
        command += ["--state-dir", str(state), "--listen", f"127.0.0.1:{port}"]
        environ = {"PYTHONPATH": str(installed)}
        return running(command, f"http://127.0.0.1:{port}", "/-/ready", tmp_path / "agent.log", environ, cwd=tmp_path)

    with loki() as store:
        (tmp_path / "deckwatch.yml").write_text(
            f"exporters: {{system: {{}}}}\nlogs:\n  loki: {{url: '{store.url}'}}\n  own: false\n"
            f"  files: [{{path: '{log}', format: raw, labels: {{job: app}}}}]\n"
        )
        install(older)
        log.write_text("".join(f"old {number}\n" for number in range(100)))
        with agent() as program:
            assert 'deckwatch_build_info{version="0.0.1"' in fetch(program.url + "/metrics")[1]
            until(lambda: len(store.stored_lines) == 100, what="the first lines")
            store.fault = Fault("refuse")
            with log.open("a") as file:
                file.writelines(f"waiting {number}\n" for number in range(100))
            until(lambda: "loki.failing" in program.printed, what="lines that wait")
        store.fault = None
        install(packages)
        with agent() as program:
            assert 'deckwatch_build_info{version="0.0.1"' not in fetch(program.url + "/metrics")[1]
            with log.open("a") as file:
                file.writelines(f"new {number}\n" for number in range(100))
            until(lambda: len(store.stored_lines) >= 300, what="all lines")
        expected = [f"{kind} {number}" for kind in ("old", "waiting", "new") for number in range(100)]
        assert sorted(store.stored_lines) == sorted(expected)


def test_the_checklist_names_what_does_not_hold() -> None:
    spec = importlib.util.spec_from_file_location("release", ROOT / "deploy" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    release = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(release)

    assert release.version() in (ROOT / "agent/deckwatch/__init__.py").read_text()
    if "(unreleased)" in (ROOT / "CHANGELOG.md").read_text():
        with pytest.raises(release.Failed, match="write the date"):
            release.dated()
