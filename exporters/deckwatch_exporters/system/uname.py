"""What uname(2) says of the kernel and the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .paths import Paths, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

INFO = Gauge(
    "node_uname_info",
    "What uname says of the host.",
    ["sysname", "release", "version", "machine", "nodename", "domainname"],
)


class Uname:
    def __init__(self, paths: Paths) -> None:
        self._domainname = paths.in_proc("sys", "kernel", "domainname")

    def collect(self) -> Iterator[Sample]:
        uname = os.uname()
        yield INFO(
            1,
            sysname=uname.sysname,
            release=uname.release,
            version=uname.version,
            machine=uname.machine,
            nodename=uname.nodename,
            # os.uname() leaves it out. The file answers for the reader's own UTS namespace, as uname(2) does,
            # whichever /proc it is read from.
            domainname=read_value(self._domainname) or "(none)",
        )
