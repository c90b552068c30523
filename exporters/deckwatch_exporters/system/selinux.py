"""SELinux, from selinuxfs (/sys/fs/selinux) and its configuration file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

ENABLED = Gauge("node_selinux_enabled", "Whether SELinux is enabled (1) or not (0).")
CONFIGURED = Gauge(
    "node_selinux_config_mode", "Configured SELinux mode: 1 is enforcing, 0 is permissive, -1 is disabled."
)
CURRENT = Gauge("node_selinux_current_mode", "Current SELinux mode: 1 is enforcing, 0 is permissive.")

_MODES = {"enforcing": 1, "permissive": 0, "disabled": -1}


class Selinux:
    def __init__(self, paths: Paths) -> None:
        self._enforce = paths.in_sys("fs", "selinux", "enforce")
        self._config = paths.in_root("/etc/selinux/config")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        text = read_value(self._enforce)
        yield ENABLED(int(text is not None))
        if text is None:
            return
        current = parse_unsigned(text, self._enforce, malformed)
        if current is not None:
            yield CURRENT(current)
        mode = parse_config(read_value(self._config) or "", malformed)
        if mode is not None:
            yield CONFIGURED(mode)
        yield from malformed


def parse_config(text: str, malformed: MalformedValues) -> int | None:
    """The mode that the file configures, as a number; None if it does not."""
    match = re.search(r"^\s*SELINUX\s*=\s*(\S*)", text, re.MULTILINE)
    if match is None:
        return None
    mode = _MODES.get(match[1].lower())
    if mode is None:
        malformed.add("/etc/selinux/config: SELINUX", match[1])
    return mode
