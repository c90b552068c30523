"""How far each file was read, in a file of its own: what the spool has let go of is known from here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson

from deckwatch.logs.entry import Identity, Position

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deckwatch.logs.entry import Labels
    from deckwatch.logs.spool.spool import Place

_VERSION = 1


def position_as_list(position: Position) -> list[str | int]:
    """As it stands in the checkpoint and in the spool's payloads."""
    return [position.path, *position.identity, position.offset]


def position_from_list(values: list[str | int]) -> Position:
    """Raises ValueError and TypeError for what is none."""
    path, device, inode, length, fingerprint, offset = values
    return Position(str(path), Identity(int(device), int(inode), int(length), str(fingerprint)), int(offset))


class Checkpoint:
    """`positions.json`: positions by rule and file, the place in the spool up to which they are all in it, and the
    newest times (Unix nanoseconds) of the streams by then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = b""

    def load(self) -> tuple[Place | None, dict[str, Position], dict[Labels, int]]:
        """Nothing for a file that is missing or damaged: the spool's own records tell the rest."""
        from deckwatch.logs.spool.spool import Place

        try:
            stored = orjson.loads(self._path.read_bytes())
            if stored["version"] != _VERSION:
                return None, {}, {}
            place = Place(*stored["place"])
            positions = {key: position_from_list(values) for key, values in stored["files"].items()}
            newest = {tuple(sorted(labels.items())): int(time) for labels, time in stored["newest"]}
            return place, positions, newest
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None, {}, {}

    def save(self, place: Place, positions: Mapping[str, Position], newest: Mapping[Labels, int]) -> None:
        """Durable when it returns. Raises OSError, with the old one still in place."""
        files = {key: position_as_list(position) for key, position in positions.items()}
        times = [(dict(labels), time) for labels, time in newest.items()]
        data = orjson.dumps({"version": _VERSION, "place": list(place), "files": files, "newest": times})
        if data == self._saved:
            return
        temporary = self._path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._saved = data
