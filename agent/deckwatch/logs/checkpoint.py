"""The checkpoint on disk: the read position of each file. Outlives the payloads that the spool deletes."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

import orjson

from deckwatch.config.private_files import NotPrivateError, open_private, sync_folder
from deckwatch.logs.entry import Identity, Position
from deckwatch.logs.spool.spool import Cursor, SpoolError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deckwatch.logs.entry import Labels

_VERSION = 1


def position_as_list(position: Position) -> list[str | int]:
    """Return a position in the form used in the checkpoint and in payloads."""
    path, identity, offset, before, mtime = position
    return [_path_as_text(path), *identity, offset, before, mtime]


def position_from_list(values: list[str | int]) -> Position:
    """Return the position that `position_as_list` encoded. Raises ValueError or TypeError for anything else."""
    path, device, inode, length, fingerprint, offset, *more = values
    identity = Identity(int(device), int(inode), int(length), str(fingerprint))
    before, mtime = more or ("", -1)
    return Position(_path_from_text(str(path)), identity, int(offset), str(before), int(mtime))


def _path_as_text(path: str) -> str:
    """JSON has no form for file names that are not UTF-8. Their bytes follow a NUL, which no file name contains."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "\0" + os.fsencode(path).decode("latin-1")
    return path


def _path_from_text(text: str) -> str:
    return os.fsdecode(text[1:].encode("latin-1")) if text.startswith("\0") else text


class Checkpoint:
    """`positions.json`: positions by rule and file, and the spool cursor at which they were saved.

    Payloads after that cursor contain later positions. The newest timestamp of each stream (Unix nanoseconds) is saved
    too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = b""
        self._log = logging.getLogger("deckwatch.logs")

    def load(self) -> tuple[Cursor | None, dict[str, Position], dict[Labels, int]]:
        """Load the checkpoint. If it is missing or damaged, return nothing: spooled payloads have positions too.

        A damaged one is kept under another name and reported. Raises NotPrivateError, and SpoolError if a newer version
        wrote it.
        """
        try:
            with open(open_private(self._path, os.O_RDONLY), "rb") as file:
                stored = orjson.loads(file.read())
            if stored["version"] > _VERSION:
                raise SpoolError(
                    f"{self._path} is of a newer version of Deckwatch (format {stored['version']}). Install that "
                    "version, or remove the file to read all log files again"
                )
            place = Cursor(*stored["place"])
            positions = {key: position_from_list(values) for key, values in stored["files"].items()}
            newest = {tuple(sorted(labels.items())): int(time) for labels, time in stored["newest"]}
            return place, positions, newest
        except NotPrivateError:
            raise
        except FileNotFoundError:
            return None, {}, {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._report_damage(error)
            return None, {}, {}

    def _report_damage(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else "it is not a checkpoint of Deckwatch"
        kept = self._path.with_suffix(".damaged")
        with contextlib.suppress(OSError):
            self._path.replace(kept)
        self._log.error(
            "%s cannot be read: %s. Log files are read from the positions in the spool, or from their beginnings. "
            "The file is kept as %s.",
            self._path,
            reason,
            kept,
            extra={"event": "logs.positions_damaged"},
        )

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
