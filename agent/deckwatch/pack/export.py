"""Write a part of the pack into a folder, and leave alone what is not ours there."""

from __future__ import annotations

import hashlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, TextIO

from deckwatch.pack.files import PackError, shipped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Remembers the hash of what was written, by part and file. No `.json` at its end: Grafana would provision it.
RECORD = ".deckwatch-export"


def export(
    part: str, folder: Path, force: bool, out: TextIO, generated: Mapping[str, bytes] = MappingProxyType({})
) -> int:
    """Write the part's files and the `generated` ones, and say what was done. 0, or 1 when nothing was written.

    Files that an export wrote are updated; a file that it did not write, or that was changed since, stops the whole
    export unless forced. Raises PackError when the folder cannot be read or written.
    """
    files = {**shipped(part), **generated}
    try:
        return _export(part, files, folder, force, out)
    except OSError as failure:
        raise PackError(f"{failure.filename or folder}: {failure.strerror or failure}") from failure


def _export(part: str, files: dict[str, bytes], folder: Path, force: bool, out: TextIO) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    record = _read_record(folder)
    written = record.get(part, {})
    found = {name: _read(folder / name) for name in files}
    if not force and (changed := [name for name in files if not _is_ours(found[name], files[name], written.get(name))]):
        for name in changed:
            out.write(f"kept       {folder / name} (not written by `deckwatch {part} export`, or changed since)\n")
        out.write("nothing was written; overwrite these files with --force\n")
        return 1
    counts = {"created": 0, "updated": 0, "unchanged": 0}
    for name, content in files.items():
        what = "created" if found[name] is None else "unchanged" if found[name] == content else "updated"
        if what != "unchanged":
            _write(folder / name, content)
            out.write(f"{what:<10} {folder / name}\n")
        counts[what] += 1
    for name in sorted(set(written) - set(files)):
        if (folder / name).exists():
            out.write(f"left       {folder / name} (no longer shipped: remove it)\n")
    record[part] = {name: _hash(content) for name, content in files.items()}
    _write(folder / RECORD, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    out.write(", ".join(f"{count} {what}" for what, count in counts.items()) + "\n")
    return 0


def _is_ours(found: bytes | None, content: bytes, written: str | None) -> bool:
    return found is None or found == content or _hash(found) == written


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _read_record(folder: Path) -> dict[str, dict[str, str]]:
    content = _read(folder / RECORD)
    try:
        found = json.loads(content) if content else {}
    except ValueError:
        return {}  # then every file that differs counts as the user's
    if not isinstance(found, dict):
        return {}
    return {part: names for part, names in found.items() if isinstance(names, dict)}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: Prometheus and Grafana read these folders while we write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
