"""Import rules: one direction, no cycles, and no client library before its target is opened."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "agent", ROOT / "exporters")

#: The packages that each package may import besides itself, from the highest layer to the lowest.
MAY_IMPORT = {
    "cli": {
        "sdk",
        "agent",
        "collection",
        "discovery",
        "durations",
        "config",
        "convert",
        "exporter",
        "http",
        "logs",
        "metrics",
        "pack",
        "remote_write",
        "status_page",
    },
    "http": {"collection", "config", "metrics", "status_page"},
    "status_page": {"collection"},
    "agent": {"collection", "config", "exporter", "logs", "metrics", "remote_write"},
    "remote_write": {"config", "exporter", "logs", "metrics"},
    "discovery": set(),
    "testing": {"collection", "config", "exporter", "metrics"},
    "pack": {"collection", "config", "metrics"},
    "collection": {"config", "exporter", "metrics"},
    "logs": {"config", "exporter", "metrics"},
    "exporter": {"config", "metrics"},
    "convert": {"config"},
    "metrics": set(),
    "config": {"durations"},
    "durations": set(),
    "sdk": {"logs"},
}


def modules() -> dict[str, Path]:
    found = {}
    for source in SOURCES:
        for path in source.rglob("*.py"):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(module: str) -> set[str]:
    """Return Deckwatch's modules that a module imports anywhere, including imports for types."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *(node.module.split(".") if node.module else [])])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return {name for name in found if name in MODULES and name != module}


GRAPH = {module: imports_of(module) for module in MODULES}


def test_no_import_is_circular_including_type_only_imports() -> None:
    try:
        list(TopologicalSorter(GRAPH).static_order())
    except CycleError as cycle:
        pytest.fail(f"circular import: {' <- '.join(cycle.args[1])}")


def part_of(module: str) -> str:
    """Return `collection` for `deckwatch.collection.board`, and `` for `deckwatch` itself."""
    return module.partition(".")[2].partition(".")[0]


def test_a_package_imports_only_lower_layers() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in sorted(GRAPH)
        for name in sorted(GRAPH[module])
        if module.startswith("deckwatch.") and name.startswith("deckwatch.")
        if part_of(module) not in ("__main__", part_of(name)) and part_of(name) not in MAY_IMPORT[part_of(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_an_exporter_imports_only_the_contract_and_the_shared_clients() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in sorted(GRAPH)
        for name in sorted(GRAPH[module])
        if module.startswith("deckwatch_exporters")
        if name != "deckwatch.exporter"
        and not name.startswith((".".join(module.split(".")[:2]), "deckwatch_exporters.clients"))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_stages_of_the_log_pipeline_do_not_import_each_other() -> None:
    stages = ("tailing", "parsing", "spool", "loki")
    wrong = [
        f"{module} imports {name}"
        for stage in stages
        for module in sorted(GRAPH)
        if module.startswith(f"deckwatch.logs.{stage}.")
        for name in sorted(GRAPH[module])
        if name.startswith("deckwatch.logs.") and not name.startswith(f"deckwatch.logs.{stage}")
        if name != "deckwatch.logs.entry"
    ]
    assert not wrong, "\n".join(wrong)


def loaded_by(*arguments: str) -> set[str]:
    """Return the top-level packages that a command loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deckwatch", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "deckwatch" in loaded
    return loaded


def test_check_loads_neither_the_server_nor_a_client_that_no_target_needs(tmp_path: Path) -> None:
    config = tmp_path / "deckwatch.yml"
    config.write_text("exporters: {}\n")
    loaded = loaded_by("check", "--config", str(config), "--state-dir", str(tmp_path))
    assert not loaded & {"starlette", "uvicorn", "redis", "hiredis", "pamqp", "psycopg", "rich"}
