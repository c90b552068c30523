"""The host collectors on the captured tree, and the files that each of them reads."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.exporter import Context, Sample
from deckwatch_exporters.system import SUBSYSTEMS, SystemSettings
from deckwatch_exporters.system.time_of_day import TimeOfDay

from .support import FIXTURES

if TYPE_CHECKING:
    from deckwatch.exporter import Collector

HOST = FIXTURES / "host"

#: These query the running kernel (timex), existing file systems (filesystem) or a bus (systemd).
_NOT_ON_FILES = {"timex", "filesystem", "systemd"}
ON_FILES = sorted(SUBSYSTEMS.keys() - _NOT_ON_FILES)


def make(name: str, tree: Path) -> Collector:
    config = SystemSettings.model_validate(
        {
            "procfs": str(tree / "proc"),
            "sysfs": str(tree / "sys"),
            "rootfs": str(tree / "root"),
            "udev": str(tree / "udev"),
            "stat": {"softirq": True},
            "processes": [{"name": "worker", "match": "celery", "pss": True}, {"name": "nobody", "match": "none such"}],
        }
    )
    if name == "time":
        return TimeOfDay(config.paths, clock=lambda: 1_700_000_000.0)
    return SUBSYSTEMS[name].make(config.paths, config, Context(logger=logging.getLogger("test")))


def collected(name: str, tree: Path) -> list[Sample]:
    return [item for item in make(name, tree).collect() if isinstance(item, Sample)]


_READ: dict[str, list[Path]] = {}


def files_read(name: str) -> list[Path]:
    """The files of the tree that the collector opens, relative to the tree."""
    if name not in _READ:
        opened: list[Path] = []
        real_open = os.open

        def recording_open(path: str, *arguments: int) -> int:
            opened.append(Path(path).relative_to(HOST))
            return real_open(path, *arguments)

        os.open = recording_open  # type: ignore[assignment]  # for this one run
        try:
            collected(name, HOST)
        finally:
            os.open = real_open
        _READ[name] = sorted({path for path in opened if (HOST / path).is_file()})
    return _READ[name]
