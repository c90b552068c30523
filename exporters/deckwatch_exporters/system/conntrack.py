"""Connection tracking, from /proc/sys/net/netfilter and /proc/net/stat/nf_conntrack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, read_number, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

ENTRIES = Gauge("node_nf_conntrack_entries", "Connections that are tracked.")
LIMIT = Gauge("node_nf_conntrack_entries_limit", "Connections that can be tracked.")
#: By the file's column.
STATISTICS = {
    "found": Gauge("node_nf_conntrack_stat_found", "Searched entries that were found."),
    "invalid": Gauge("node_nf_conntrack_stat_invalid", "Packets that cannot be tracked."),
    "ignore": Gauge("node_nf_conntrack_stat_ignore", "Packets of connections that are tracked already."),
    "insert": Gauge("node_nf_conntrack_stat_insert", "Entries inserted."),
    "insert_failed": Gauge("node_nf_conntrack_stat_insert_failed", "Entries that could not be inserted."),
    "drop": Gauge("node_nf_conntrack_stat_drop", "Packets dropped because tracking failed."),
    "early_drop": Gauge("node_nf_conntrack_stat_early_drop", "Entries dropped to make room for new ones."),
    "search_restart": Gauge("node_nf_conntrack_stat_search_restart", "Lookups restarted by a resize of the table."),
}


class Conntrack:
    def __init__(self, paths: Paths) -> None:
        self._settings = paths.in_proc("sys", "net", "netfilter")
        self._statistics = paths.in_proc("net", "stat", "nf_conntrack")

    def collect(self) -> Iterator[Sample]:
        entries = read_number(f"{self._settings}/nf_conntrack_count")
        limit = read_number(f"{self._settings}/nf_conntrack_max")
        if entries is None or limit is None:
            raise NotAvailable
        yield ENTRIES(entries)
        yield LIMIT(limit)
        try:
            totals = parse_statistics(read_text(self._statistics))
        except (FileNotFoundError, PermissionError):
            return  # newer kernels can be built without the file
        for column, metric in STATISTICS.items():
            if column in totals:
                yield metric(totals[column])


def parse_statistics(text: str) -> dict[str, int]:
    """The sum over all CPUs of each column (hexadecimal). Raises ValueError."""
    # Columns are found by name: their order and number differ between kernels (`clashres` was `searched` once).
    heading, _, rows = text.partition("\n")
    columns = heading.split()
    totals = dict.fromkeys(columns, 0)
    for row in filter(None, rows.split("\n")):
        try:
            for column, value in zip(columns, row.split(), strict=True):
                totals[column] += int(value, 16)
        except ValueError:
            raise ValueError(
                f"/proc/net/stat/nf_conntrack: not {len(columns)} hexadecimal figures: {row[:80]!r}"
            ) from None
    return totals
