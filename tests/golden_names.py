"""Compares exposed metrics (names, types and labels) with the golden files and the catalogue."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import TypeAlias

from comparison import exposed
from services import deckwatch_command

GOLDEN = Path(__file__).parent / "exporters" / "golden"

#: Type and label names by metric name, without the labels of buckets and quantiles.
Families: TypeAlias = "dict[str, tuple[str, frozenset[str]]]"


def families(exposition: str, prefix: str) -> Families:
    return {
        name: (kind, frozenset(label for _, labels in series for label, _ in labels) - {"le", "quantile"})
        for name, (kind, series) in exposed(exposition).items()
        if name.startswith(prefix)
    }


def assert_golden(name: str, found: Families) -> None:
    """Compare with a golden file. With `UPDATE_GOLDEN=1`, write the file first."""
    lines = {f"{metric} {kind} {','.join(sorted(labels))}".rstrip() for metric, (kind, labels) in found.items()}
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text("\n".join(sorted(lines)) + "\n")
    wanted = set(golden.read_text().splitlines())
    assert lines == wanted, f"{golden}: missing {sorted(wanted - lines)}, not in it {sorted(lines - wanted)}"


def undeclared(found: Families) -> list[str]:
    """Return the names that `deckwatch metrics` does not list with the same type and labels."""
    declared = _declared()
    patterns = {name[:-1]: family for name, family in declared.items() if name.endswith("*")}
    return [
        name
        for name, (kind, labels) in found.items()
        if (kind.replace("untyped", "unknown"), labels)
        not in [
            *([declared[name]] if name in declared else []),
            *(family for prefix, family in patterns.items() if name.startswith(prefix)),
        ]
    ]


@functools.cache
def _declared() -> Families:
    command = deckwatch_command("metrics", "--format", "json")
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return {it["name"]: (it["type"], frozenset(it["labels"])) for it in json.loads(listed.stdout)}
