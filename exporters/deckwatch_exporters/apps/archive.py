"""Counters and histograms of processes that are gone, in one file for each service, so that they never fall.

Gauges of some modes are kept too: a scheduled job's last success is of interest after the job has ended.

The archive names the files that it includes, with their inode and the time of their last change: if the agent is killed
between writing the archive and removing a file, the file is not counted twice.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .multiprocess_file import Damaged, Entry, Values, series_of
from .sums import exact_terms, values_by_key

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "deckwatch-archive.json"
_VERSION = 2  # 2 adds gauges

#: Gauges of these modes outlive their processes: prometheus_client's modes without `live` that select one value.
KEPT_MODES = frozenset(("mostrecent", "max", "min"))

#: The identity of a file: its name, inode and change time at the last write, in ns.
Identity = tuple[str, int, int]


class NewerArchive(Exception):
    """The archive is of a newer version of Deckwatch."""


@dataclass
class Archive:
    """Sums by type and key (see `exact_terms`), gauges by mode and key, and the files that they include."""

    totals: dict[str, dict[bytes, list[float]]] = field(default_factory=dict)
    gauges: dict[str, dict[bytes, Entry]] = field(default_factory=dict)
    included: set[Identity] = field(default_factory=set)

    def add(self, kind: str, files: Iterable[Values]) -> None:
        sums = self.totals.setdefault(kind, {})
        for key, values in values_by_key(files).items():
            if _is_valid(key):
                sums[key] = exact_terms([*sums.get(key, ()), *values])

    def keep(self, mode: str, entries: Iterable[Entry], changed: float) -> None:
        """Keep gauges of a process that has ended; `changed` is the time of those that have none."""
        gauges = self.gauges.setdefault(mode, {})
        for key, value, timestamp in entries:
            if math.isnan(value) or (mode == "mostrecent" and not timestamp) or not _is_valid(key):
                continue  # never set, or malformed
            new, old = Entry(key, value, timestamp or changed), gauges.get(key)
            if old is None:
                gauges[key] = new
            elif mode == "mostrecent":
                gauges[key] = max(old, new, key=lambda entry: entry.timestamp)
            else:
                gauges[key] = Entry(key, (max if mode == "max" else min)(old.value, value), max(old[2], new[2]))

    def forget(self, before: float) -> None:
        """Remove gauges that were set before a time."""
        for mode, gauges in self.gauges.items():
            self.gauges[mode] = {key: entry for key, entry in gauges.items() if entry.timestamp >= before}

    def sums(self, kind: str) -> Values:
        """The terms of all sums: a key occurs once for each of them."""
        terms = [(key, term) for key, terms in self.totals.get(kind, {}).items() for term in terms]
        return Values(tuple(key for key, _ in terms), tuple(term for _, term in terms), (0.0,) * len(terms))

    def kept(self, mode: str) -> Values:
        entries = list(self.gauges[mode].values())
        return Values(*(tuple(column) for column in zip(*entries, strict=True)))

    def write(self, folder: str) -> None:
        """Replace the archive in the folder; after a crash, it is the old or the new one. Raises OSError."""
        content = {
            "version": _VERSION,
            "included": sorted(self.included),
            "totals": {
                kind: {key.decode(): terms[0] for key, terms in sums.items()} for kind, sums in self.totals.items()
            },
            "remainders": {
                kind: {key.decode(): terms[1:] for key, terms in sums.items() if len(terms) > 1}
                for kind, sums in self.totals.items()
            },
            "gauges": {
                mode: {key.decode(): [value, timestamp] for key, value, timestamp in gauges.values()}
                for mode, gauges in self.gauges.items()
            },
        }
        temporary = Path(folder, f"{NAME}.new")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content))  # dump() would encode it in Python
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(Path(folder, NAME))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_valid(key: bytes) -> bool:
    try:
        series_of(key)
    except Damaged:
        return False
    return True


def load(folder: str) -> Archive:
    """The archive of a folder, empty if there is none. Raises OSError, ValueError if it is damaged, NewerArchive."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            content: Any = json.load(file)
    except FileNotFoundError:
        return Archive()
    except RecursionError:
        raise ValueError(f"{NAME} is damaged: nested too deeply") from None
    try:
        if content["version"] > _VERSION:
            raise NewerArchive(f"{NAME} is of a newer version ({content['version']})")
        remainders = content.get("remainders", {})
        totals = {
            kind: {
                key.encode(): [float(total), *map(float, remainders.get(kind, {}).get(key, ()))]
                for key, total in sums.items()
            }
            for kind, sums in content["totals"].items()
        }
        gauges = {
            mode: {key.encode(): Entry(key.encode(), float(value), float(at)) for key, (value, at) in kept.items()}
            for mode, kept in content.get("gauges", {}).items()
        }
        for keys in (*map(list, totals.values()), *map(list, gauges.values())):
            for key in keys:
                series_of(key)
        return Archive(totals, gauges, {(name, inode, changed) for name, inode, changed in content["included"]})
    except (KeyError, TypeError, AttributeError, ValueError, Damaged) as wrong:
        raise ValueError(f"{NAME} is damaged: {wrong}") from None
