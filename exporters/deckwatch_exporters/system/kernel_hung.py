"""Hung tasks, from /proc/sys/kernel/hung_task_detect_count (Linux 6.13 and later)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

HUNG = Counter("node_kernel_hung_tasks_total", "Number of hung tasks detected since boot.")


class KernelHung:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("sys", "kernel", "hung_task_detect_count")

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            raise NotAvailable from None  # an older kernel, or one without CONFIG_DETECT_HUNG_TASK
        malformed = MalformedValues()
        count = parse_unsigned(text.strip(), self._path, malformed)
        if count is not None:
            yield HUNG(count)
        yield from malformed
