"""Files of /proc that are read on every run and stay open, because opening one takes as long as reading it.

If the process has ended, reading its file fails with ESRCH (proc_single_show() in fs/proc/base.c), even if another
process has the same id by then. The path is then opened again.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_SIZE = 4096  # bytes; the files have a few hundred and are returned by one read


class KeptFiles:
    """Keeps up to `limit` files open; further files are opened for each read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._descriptors: dict[str, int] = {}  # by path
        weakref.finalize(self, _close_all, self._descriptors)  # a reload drops the collector

    def __len__(self) -> int:
        return len(self._descriptors)

    def paths(self) -> set[str]:
        """The files that are open."""
        return set(self._descriptors)

    def read(self, path: str) -> str:
        """Read a file as text. Raises OSError."""
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            try:
                return os.pread(descriptor, _SIZE, 0).decode("utf-8", "backslashreplace")
            except OSError:
                os.close(self._descriptors.pop(path))
        return self._open_and_read(path).decode("utf-8", "backslashreplace")

    def _open_and_read(self, path: str) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        keep = False
        try:
            content = os.read(descriptor, _SIZE)
            keep = len(self._descriptors) < self._limit
        finally:
            if not keep:
                os.close(descriptor)
        if keep:
            self._descriptors[path] = descriptor
        return content

    def forget_others(self, paths: AbstractSet[str]) -> None:
        """Close all files that are not in `paths`."""
        for path in self._descriptors.keys() - paths:
            os.close(self._descriptors.pop(path))


def _close_all(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
