"""File descriptors of the whole host, from /proc/sys/fs/file-nr (proc_sys_fs(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned_numbers
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

ALLOCATED = Gauge("node_filefd_allocated", "Number of allocated file descriptors.")
MAXIMUM = Gauge("node_filefd_maximum", "Maximum number of file descriptors that can be allocated.")


class FileDescriptors:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("sys", "fs", "file-nr")

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        allocated, maximum = parse_file_nr(text, malformed)
        if allocated is not None:
            yield ALLOCATED(allocated)
        if maximum is not None:
            yield MAXIMUM(maximum)
        yield from malformed


def parse_file_nr(text: str, malformed: MalformedValues) -> tuple[int | None, int | None]:
    """Allocated and maximum; the number between them has been 0 since Linux 2.6."""
    words = text.split()
    if len(words) != 3:
        malformed.add("/proc/sys/fs/file-nr", text)
        return None, None
    allocated, maximum = parse_unsigned_numbers(words[::2], "/proc/sys/fs/file-nr", malformed)
    return allocated, maximum
