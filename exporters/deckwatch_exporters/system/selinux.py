"""SELinux, from its own file system (selinuxfs, below /sys/fs/selinux) and its config file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .paths import Paths, read_number, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

ENABLED = Gauge("node_selinux_enabled", "Whether SELinux is enabled.")
CONFIGURED = Gauge("node_selinux_config_mode", "The configured mode: 1 enforcing, 0 permissive, -1 disabled.")
CURRENT = Gauge("node_selinux_current_mode", "The mode in force: 1 enforcing, 0 permissive.")

_MODES = {"enforcing": 1, "permissive": 0, "disabled": -1}


class Selinux:
    def __init__(self, paths: Paths) -> None:
        self._enforce = paths.in_sys("fs", "selinux", "enforce")
        self._config = paths.in_root("/etc/selinux/config")

    def collect(self) -> Iterator[Sample]:
        enforcing = read_number(self._enforce)
        yield ENABLED(int(enforcing is not None))
        if enforcing is None:
            return
        yield CURRENT(enforcing)
        mode = parse_config(read_value(self._config) or "")
        if mode is not None:
            yield CONFIGURED(mode)


def parse_config(text: str) -> int | None:
    match = re.search(r"^\s*SELINUX\s*=\s*(\w+)", text, re.MULTILINE)
    return _MODES.get(match[1].lower()) if match else None
