"""Kernel and host name, from uname(2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .kept_files import KeptFiles
from .paths import Paths, printable

if TYPE_CHECKING:
    from deckwatch.exporter import Sample, Samples

INFO = Gauge(
    "node_uname_info",
    "Kernel and host name from uname(2); the value is always 1.",
    ["sysname", "release", "version", "machine", "nodename", "domainname"],
)


class Uname:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._domainname = paths.in_proc("sys", "kernel", "domainname")
        self._known: tuple[os.uname_result, str] | None = None
        self._samples: list[Sample] = []

    def collect(self) -> Samples:
        # os.uname() does not have the domain. Below any /proc, the file returns that of the reader's UTS namespace.
        known = uname, domainname = os.uname(), self._files.read_value(self._domainname) or "(none)"
        if known != self._known:
            self._known = known
            self._samples = [
                INFO(
                    1,
                    sysname=uname.sysname,
                    release=uname.release,
                    version=uname.version,
                    machine=uname.machine,
                    nodename=printable(uname.nodename),
                    domainname=domainname,
                )
            ]
        return self._samples
