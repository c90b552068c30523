"""Tasks that the kernel found hung, from /proc/sys/kernel/hung_task_detect_count (Linux 6.13 and later)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, NotAvailable

from .figures import figure
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

HUNG = Counter("node_kernel_hung_tasks_total", "Tasks that were found hung since boot.")


class KernelHung:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("sys", "kernel", "hung_task_detect_count")

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None  # an older kernel, or one without CONFIG_DETECT_HUNG_TASK
        yield HUNG(figure(text.strip(), self._path))
