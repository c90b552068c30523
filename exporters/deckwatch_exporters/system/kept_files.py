"""Files of /proc that are read on each run, held open: opening one costs what the kernel's writing it does.

Of a process that has ended the kernel gives nothing under a descriptor that was opened before (ESRCH, from
proc_single_show() in fs/proc/base.c), even where another process has its id by now: then the path is opened anew.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_SIZE = 4096  # bytes: these files are printed in one piece and take up a few hundred


class KeptFiles:
    """Up to `most` of them; what is read beyond that is opened each time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._descriptors: dict[str, int] = {}  # by path
        weakref.finalize(self, _close_all, self._descriptors)  # a reload makes new collectors and drops the old

    def __len__(self) -> int:
        return len(self._descriptors)

    def paths(self) -> set[str]:
        """Those that are open."""
        return set(self._descriptors)

    def read(self, path: str) -> str:
        """The file as text. Raises OSError."""
        kept = self._descriptors.get(path)
        if kept is not None:
            try:
                return os.pread(kept, _SIZE, 0).decode("utf-8", "surrogateescape")
            except OSError:
                os.close(self._descriptors.pop(path))
        return self._read_anew(path).decode("utf-8", "surrogateescape")

    def _read_anew(self, path: str) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        keep = False
        try:
            content = os.read(descriptor, _SIZE)
            keep = len(self._descriptors) < self._most
        finally:
            if not keep:
                os.close(descriptor)
        if keep:
            self._descriptors[path] = descriptor
        return content

    def forget_others(self, paths: AbstractSet[str]) -> None:
        """Close what is not among `paths`."""
        for path in self._descriptors.keys() - paths:
            os.close(self._descriptors.pop(path))


def _close_all(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
