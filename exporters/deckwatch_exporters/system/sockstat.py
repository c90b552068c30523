"""Sockets in use, from /proc/net/sockstat and sockstat6 (proc_net(5))."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

SOCKSTAT = MetricPattern("node_sockstat_*", "gauge", "Socket statistic {} from /proc/net/sockstat.")

_PAGE = os.sysconf("SC_PAGE_SIZE")  # the unit of memory in the file
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class Sockstat:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._folder = paths.in_proc("net")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        values: dict[str, int] = {}
        for file in ("sockstat", "sockstat6"):
            try:
                text = self._files.read(f"{self._folder}/{file}")
            except FileNotFoundError:
                continue  # sockstat6 does not exist without IPv6
            parse_sockstat(text, f"/proc/net/{file}", values, malformed)
        for name, value in values.items():
            yield SOCKSTAT.named(name)(value)
            if name.endswith("_mem"):
                yield SOCKSTAT.named(f"{name}_bytes")(value * _PAGE)
        yield from malformed


def parse_sockstat(text: str, file: str, values: dict[str, int], malformed: MalformedValues) -> None:
    """Add the values in a file by `<protocol>_<field>`: `TCP: inuse 4 mem 1` is `TCP_inuse` and `TCP_mem`."""
    for line in filter(None, text.split("\n")):
        protocol, _, rest = line.partition(":")
        name = ""
        for word in [*rest.split(), ""]:
            if _NAME.fullmatch(word) or not word:
                if name or not _NAME.fullmatch(protocol):
                    malformed.add(file, line)  # a name without a value
                name = word
                continue
            field, name = f"{protocol}_{name}", ""
            if field.endswith("_") or not _NAME.fullmatch(protocol) or field in values:
                malformed.add(f"{file}: {protocol}", line)
                continue
            value = parse_unsigned(word, f"{file}: {field}", malformed)
            if value is not None:
                values[field] = value
