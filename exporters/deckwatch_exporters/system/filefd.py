"""File descriptors of the whole host, from /proc/sys/fs/file-nr (proc_sys_fs(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .figures import figures
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

ALLOCATED = Gauge("node_filefd_allocated", "File descriptors in use.")
MAXIMUM = Gauge("node_filefd_maximum", "File descriptors that the host allows.")


class FileDescriptors:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("sys", "fs", "file-nr")

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        allocated, maximum = parse_file_nr(text)
        yield ALLOCATED(allocated)
        yield MAXIMUM(maximum)


def parse_file_nr(text: str) -> tuple[int, int]:
    """Allocated and maximum; the figure between them has been 0 since Linux 2.6. Raises ValueError."""
    words = text.split()
    if len(words) != 3:
        raise ValueError(f"/proc/sys/fs/file-nr has {len(words)} figures, not three")
    allocated, _, maximum = figures(words, "/proc/sys/fs/file-nr")
    return allocated, maximum
