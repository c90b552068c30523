"""The quarantine: a file of entries that Loki permanently rejects, one JSON object with the reason per line.

{"set_aside": Unix seconds, "destination": ..., "reason": ..., "time": Unix ns, "labels": {...}, "line": ...,
 "metadata": {...}}
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson

from deckwatch.config.private_files import make_private_folder, open_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FILE_NAME = "quarantine.jsonl"
_MAX_BYTES = 64 * 1024 * 1024


class Quarantine:
    """The quarantine file in `folder`, which is created. A full file is kept as `.1`. Thread-safe."""

    def __init__(self, folder: Path, max_bytes: int = _MAX_BYTES) -> None:
        self.path = folder / FILE_NAME
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def add(
        self,
        destination: str,
        entries: Sequence[tuple[str, Mapping[str, str], Sequence[Any]]],
        now: float | None = None,
    ) -> None:
        """Append entries durably: reason, labels and `[ns as text, line, metadata?]` of each.

        Raises OSError and leaves the file unchanged.
        """
        moment = round(time.time() if now is None else now, 3)
        written = b"".join(
            orjson.dumps(
                {
                    "set_aside": moment,
                    "destination": destination,
                    "reason": reason,
                    "time": int(value[0]),
                    "labels": labels,
                    "line": value[1],
                    "metadata": value[2] if len(value) > 2 else {},
                }
            )
            + b"\n"
            for reason, labels, value in entries
        )
        with self._lock:
            self._append(written)

    def _append(self, written: bytes) -> None:
        make_private_folder(self.path.parent)
        fd = open_private(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(fd).st_size
            if size and size + len(written) > self._max_bytes:
                self.path.replace(f"{self.path}.1")
                os.close(fd)
                fd = open_private(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
                size = 0
            try:
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    written = b"\n" + written  # a crash left an incomplete line
                view = memoryview(written)
                while view:
                    view = view[os.write(fd, view) :]
                os.fdatasync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)


def entries(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the quarantined entries, oldest first. Incomplete lines left by a crash are skipped."""
    for path in (folder / f"{FILE_NAME}.1", folder / FILE_NAME):
        with contextlib.suppress(FileNotFoundError), open(open_private(path, os.O_RDONLY), "rb") as file:
            for line in file:
                try:
                    entry = orjson.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict):
                    yield entry
