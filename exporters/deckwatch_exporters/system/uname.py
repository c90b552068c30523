"""Kernel and host name, from uname(2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .paths import Paths, printable, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

INFO = Gauge(
    "node_uname_info",
    "Kernel and host name from uname(2); the value is always 1.",
    ["sysname", "release", "version", "machine", "nodename", "domainname"],
)


class Uname:
    def __init__(self, paths: Paths) -> None:
        self._domainname = paths.in_proc("sys", "kernel", "domainname")

    def collect(self) -> Samples:
        uname = os.uname()
        yield INFO(
            1,
            sysname=uname.sysname,
            release=uname.release,
            version=uname.version,
            machine=uname.machine,
            nodename=printable(uname.nodename),
            # os.uname() does not have it. Below any /proc, the file returns that of the reader's UTS namespace.
            domainname=read_value(self._domainname) or "(none)",
        )
