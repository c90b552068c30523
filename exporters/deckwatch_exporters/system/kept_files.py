"""Files of procfs and sysfs that are read on every run and stay open, because opening one takes longer than reading it.

If the process has ended, reading its file fails with ESRCH (proc_single_show() in fs/proc/base.c), even if another
process has the same id by then. If the module has been unloaded, reading its file fails with EIO or ENODEV. The path is
then opened again.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

_SIZE = 65536  # bytes
_SHORT = 4096  # bytes; files of a process have a few hundred


class KeptFiles:
    """Keeps up to `limit` files open; further files are opened for each read.

    The kernel makes the content of its files when they are read, so that an open one never shows old content. Other
    files, which can be replaced, are opened for each read.
    """

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._descriptors: dict[str, int] = {}  # by path
        weakref.finalize(self, _close_all, self._descriptors)  # a reload drops the collector

    def __len__(self) -> int:
        return len(self._descriptors)

    def paths(self) -> set[str]:
        """The files that are open."""
        return set(self._descriptors)

    def read(self, path: str, errors: str = "backslashreplace") -> str:
        """Read a whole file as text, with undecodable bytes as in `read_text()`. Raises OSError."""
        return self._read(path, _whole).decode("utf-8", errors)

    def read_at_once(self, path: str) -> str:
        """Read a short file that the kernel returns in a single read, such as /proc/<pid>/stat. Raises OSError."""
        return self._read(path, _at_once).decode("utf-8", "backslashreplace")

    def read_value(self, path: str) -> str | None:
        """Read a one-value file as `read_value()` of paths does: None where it or its value is not available."""
        try:
            return self.read_at_once(path).strip()
        except OSError:
            return None

    def _read(self, path: str, read: Callable[[int], bytes]) -> bytes:
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            try:
                return read(descriptor)
            except OSError:
                os.close(self._descriptors.pop(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        keep = False
        try:
            content = read(descriptor)
            # The size of a file of procfs is 0, that of a file of sysfs is a page.
            keep = len(self._descriptors) < self._limit and os.fstat(descriptor).st_size != len(content)
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


def _whole(descriptor: int) -> bytes:
    content = os.pread(descriptor, _SIZE, 0)
    # Files with one record per line come in several pieces (fs/seq_file.c).
    while piece := os.pread(descriptor, _SIZE, len(content)):
        content += piece
    return content


def _at_once(descriptor: int) -> bytes:
    return os.pread(descriptor, _SHORT, 0)


def _close_all(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
