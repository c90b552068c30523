"""Change detection for files that are reloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class WatchedFiles:
    """File stamps, taken before each file is read so that a change during reading is detected."""

    def __init__(self) -> None:
        self._stamps: dict[Path, tuple[int, int, int, int] | None] = {}

    def note(self, file: Path) -> None:
        self._stamps[file] = _stamp(file)

    def has_changed(self) -> bool:
        return any(_stamp(file) != stamp for file, stamp in self._stamps.items())


def _stamp(file: Path) -> tuple[int, int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size
