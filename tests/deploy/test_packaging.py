"""`pip install deckwatch` without extras, in environments that contain nothing else than its two dependencies."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from services import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not importlib.util.find_spec("hatchling"):
        pytest.skip("hatchling is not installed, and a build may not download it")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module", params=["library-oldest", "library-newest"])
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the oldest or the newest supported dependencies, into which pip has installed the wheel."""
    prepared = Path(sys.prefix) / request.param
    if not (prepared / ".installed").exists():
        pytest.skip("the dependencies could not be installed. Run: make services")
    folder = tmp_path_factory.mktemp("environment") / "venv"
    shutil.copytree(prepared, folder, symlinks=True)
    # Without an index: what the environment has must be enough.
    python(folder, "-m", "pip", "install", "-q", "--no-index", str(wheel))
    return folder


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}


def python(environment: Path, *arguments: str, **variables: str) -> str:
    command = [str(environment / "bin" / "python"), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=environment, env=clean() | variables, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def deckwatch(environment: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(environment / "bin" / "deckwatch"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=environment, env=clean() | variables, check=False
    )


def test_the_library_has_two_dependencies_and_the_rest_is_in_extras(environment: Path) -> None:
    (info,) = environment.glob("lib/python*/site-packages/deckwatch-*.dist-info")
    distribution: Distribution = PathDistribution(info)
    bare = [line for line in distribution.requires or () if "extra ==" not in line]

    assert sorted(re.split(r"[<>=]", line)[0] for line in bare) == ["prometheus-client", "python-json-logger"]
    assert {"agent", "all"} <= set(distribution.metadata.get_all("Provides-Extra") or ())


def test_everything_that_the_library_offers_works_without_the_agents_libraries(
    environment: Path, tmp_path: Path
) -> None:
    code = """
import deckwatch
for name in {*deckwatch.__all__} - {"DjangoMiddleware"}:  # needs Django
    getattr(deckwatch, name)
deckwatch.counter("orders_total", "Orders.", ["status"]).labels("paid").inc(2)
deckwatch.histogram("took_seconds", "Duration.").observe(0.3)
deckwatch.gauge("last", mode="last").set(5)
deckwatch.info("build").info({"version": "1"})
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}
print(b"".join(deckwatch.wsgi_app()(environ, lambda status, headers: None)).decode())
"""
    alone = python(environment, "-W", "error", "-c", code)
    shared = python(environment, "-W", "error", "-c", code, DECKWATCH_APP_DIR=str(tmp_path), DECKWATCH_SERVICE="shop")

    for text in (alone, shared):
        assert 'orders_total{status="paid"} 2.0' in text
        assert "took_seconds_count 1.0" in text
        assert 'build_info{version="1"} 1.0' in text
    assert list((tmp_path / "shop").glob("counter_*.db"))


@pytest.mark.parametrize("command", [["run"], ["check", "--config", "none.yml"], ["metrics"], ["man"]])
def test_a_command_of_the_agent_says_which_extra_is_missing(environment: Path, command: list[str]) -> None:
    done = deckwatch(environment, *command)

    assert done.returncode == 2
    assert re.fullmatch(
        rf"deckwatch {command[0]}: needs the agent's libraries \([a-z0-9_]+ is not installed\)\. "
        r"Run: pip install 'deckwatch\[agent\]'\n",
        done.stderr,
    ), done.stderr


def test_commands_of_the_library_need_no_extra(environment: Path, tmp_path: Path) -> None:
    assert "job" in deckwatch(environment, "--help").stdout
    assert deckwatch(environment, "version").returncode == 0
    job = ["job", "run", "--name", "backup", "--app-dir", str(tmp_path), "--service", "shop", "--", "true"]
    done = deckwatch(environment, *job)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "shop").iterdir())
