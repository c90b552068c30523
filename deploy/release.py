"""`make release`: the checklist of a release. It builds the packages in dist/ and publishes nothing.

Run it with the interpreter of an environment that has `build` and `hatchling`. Exits 1 if a point does not hold.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


class Failed(Exception):
    """A point of the checklist does not hold."""


def _run(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean | environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(
            (done.stderr or done.stdout).strip().splitlines()[-1] if done.stderr or done.stdout else command[0]
        )
    return done.stdout


def version() -> str:
    """The version, from the only place that has it."""
    found = re.search(r'^__version__ = "([^"]+)"', (ROOT / "agent/deckwatch/__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise Failed("agent/deckwatch/__init__.py has no __version__")
    return found[1]


def committed() -> str:
    if changed := _run("git", "status", "--porcelain"):
        raise Failed(f"not committed: {changed.split()[-1]}")
    return _run("git", "rev-parse", "--short", "HEAD").strip()


def dated() -> str:
    """The changelog has a section of this version with a date."""
    heading = re.search(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if heading is None or heading[1] != version():
        raise Failed(f"the first section of CHANGELOG.md is not that of {version()}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[2]):
        raise Failed(f"CHANGELOG.md says {heading[1]} ({heading[2]}): write the date, such as 2026-01-31")
    return heading[0].removeprefix("## ")


def built(folder: Path) -> dict[str, str]:
    """Build the wheel and the sdist from what is committed. Returns their names and SHA-256 digests."""
    stamp = _run("git", "log", "-1", "--format=%ct").strip()
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        source.mkdir()
        archive = Path(temporary) / "source.tar"
        _run("git", "archive", "-o", archive, "HEAD")
        shutil.unpack_archive(archive, source, filter="data")
        _run(sys.executable, "-m", "build", "-q", "-n", "-o", folder, cwd=source, SOURCE_DATE_EPOCH=stamp)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def reproducible() -> str:
    """Two builds have the same bytes. The first one stays in dist/."""
    shutil.rmtree(DIST, ignore_errors=True)
    first = built(DIST)
    with tempfile.TemporaryDirectory() as again:
        second = built(Path(again))
    if first != second:
        raise Failed(f"two builds differ: {', '.join(name for name in first if first[name] != second.get(name))}")
    return ", ".join(f"{name} {digest[:12]}" for name, digest in first.items())


def installs() -> str:
    """The wheel installs with the agent's libraries in an empty environment, and says its version."""
    (wheel,) = DIST.glob("*.whl")
    with tempfile.TemporaryDirectory() as temporary:
        venv.create(temporary, with_pip=True)
        binaries = Path(temporary, "bin")
        _run(binaries / "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[all]", cwd=Path(temporary))
        said = _run(binaries / "deckwatch", "--version", cwd=Path(temporary)).strip()
        _run(binaries / "deckwatch", "alerts", "export", Path(temporary, "alerts"), cwd=Path(temporary))
        _run(binaries / "deckwatch", "dashboards", "export", Path(temporary, "dashboards"), cwd=Path(temporary))
    if version() not in said:
        raise Failed(f"deckwatch --version says {said}")
    return said


#: What has to hold, in this order.
CHECKS: dict[str, Callable[[], str]] = {
    "the version": version,
    "everything is committed": committed,
    "the changelog has its date": dated,
    "packages build the same twice": reproducible,
    "the wheel installs alone": installs,
}


def main() -> int:
    failed = 0
    for title, check in CHECKS.items():
        try:
            result = f"ok      {title}: {check()}"
        except Failed as failure:
            failed += 1
            result = f"FAILED  {title}: {failure}"
        sys.stdout.write(f"{result}\n")
        sys.stdout.flush()
    if failed:
        return 1
    sys.stdout.write("Left: run `make test` and `make soak`, tag the commit, and publish dist/.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
