"""Counters and histograms of processes that are gone, in one file for each service, so that they never fall.

The archive names the files that it includes, with their inode and the time of their last change: if the agent is killed
between writing the archive and removing a file, the file is not counted twice.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .multiprocess_file import Value

NAME = "deckwatch-archive.json"
_VERSION = 1

#: The identity of a file: its name, inode and change time at the last write, in ns.
Identity = tuple[str, int, int]
Series = tuple[str, str, tuple[tuple[str, str], ...]]


class NewerArchive(Exception):
    """The archive is of a newer version of Deckwatch."""


@dataclass
class Archive:
    """Sums by type and series, with the help text of the metric, and the files that they include."""

    totals: dict[str, dict[Series, float]] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)
    included: set[Identity] = field(default_factory=set)

    def add(self, kind: str, values: list[Value]) -> None:
        sums = self.totals.setdefault(kind, {})
        for value in values:
            series = (value.metric, value.name, value.labels)
            sums[series] = sums.get(series, 0.0) + value.value
            self.helps[value.metric] = value.help

    def values(self, kind: str) -> list[Value]:
        return [
            Value(metric, name, labels, self.helps.get(metric, ""), total, 0.0)
            for (metric, name, labels), total in self.totals.get(kind, {}).items()
        ]

    def write(self, folder: str) -> None:
        """Replace the archive in the folder; after a crash, it is the old or the new one. Raises OSError."""
        content = {
            "version": _VERSION,
            "included": sorted(self.included),
            "totals": {
                kind: [[metric, name, list(labels), total] for (metric, name, labels), total in sums.items()]
                for kind, sums in self.totals.items()
            },
            "helps": self.helps,
        }
        temporary = Path(folder, f"{NAME}.new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(Path(folder, NAME))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def load(folder: str) -> Archive:
    """The archive of a folder, empty if there is none. Raises OSError, ValueError if it is damaged, NewerArchive."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            content: Any = json.load(file)
    except FileNotFoundError:
        return Archive()
    try:
        if content["version"] > _VERSION:
            raise NewerArchive(f"{NAME} is of a newer version ({content['version']})")
        return Archive(
            {
                kind: {
                    (metric, name, tuple((label, text) for label, text in labels)): float(total)
                    for metric, name, labels, total in sums
                }
                for kind, sums in content["totals"].items()
            },
            dict(content["helps"]),
            {(name, inode, changed) for name, inode, changed in content["included"]},
        )
    except (KeyError, TypeError, AttributeError) as wrong:
        raise ValueError(f"{NAME} is damaged: {wrong}") from None
