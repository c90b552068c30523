"""The checkpoint on disk: the read position of each file. Outlives the payloads that the spool deletes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson

from deckwatch.config.private_files import NotPrivateError, open_private, sync_folder
from deckwatch.logs.entry import Identity, Position
from deckwatch.logs.spool.spool import Cursor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deckwatch.logs.entry import Labels

_VERSION = 1


def position_as_list(position: Position) -> list[str | int]:
    """Return a position in the form used in the checkpoint and in payloads."""
    return [position.path, *position.identity, position.offset]


def position_from_list(values: list[str | int]) -> Position:
    """Return the position that `position_as_list` encoded. Raises ValueError or TypeError for anything else."""
    path, device, inode, length, fingerprint, offset = values
    return Position(str(path), Identity(int(device), int(inode), int(length), str(fingerprint)), int(offset))


class Checkpoint:
    """`positions.json`: positions by rule and file, and the spool cursor at which they were saved.

    Payloads after that cursor contain later positions. The newest timestamp of each stream (Unix nanoseconds) is saved
    too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = b""

    def load(self) -> tuple[Cursor | None, dict[str, Position], dict[Labels, int]]:
        """Load the checkpoint. If it is missing or damaged, return nothing: spooled payloads have positions too.

        Raises NotPrivateError.
        """
        try:
            with open(open_private(self._path, os.O_RDONLY), "rb") as file:
                stored = orjson.loads(file.read())
            if stored["version"] != _VERSION:
                return None, {}, {}
            place = Cursor(*stored["place"])
            positions = {key: position_from_list(values) for key, values in stored["files"].items()}
            newest = {tuple(sorted(labels.items())): int(time) for labels, time in stored["newest"]}
            return place, positions, newest
        except NotPrivateError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None, {}, {}

    def save(self, place: Cursor, positions: Mapping[str, Position], newest: Mapping[Labels, int]) -> None:
        """Save the checkpoint durably. Raises OSError and keeps the previous checkpoint."""
        files = {key: position_as_list(position) for key, position in positions.items()}
        times = [(dict(labels), time) for labels, time in newest.items()]
        data = orjson.dumps({"version": _VERSION, "place": list(place), "files": files, "newest": times})
        if data == self._saved:
            return
        temporary = self._path.with_suffix(".tmp")
        with open(open_private(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        sync_folder(self._path.parent)
        self._saved = data
