"""Connection tracking, from /proc/sys/net/netfilter and /proc/net/stat/nf_conntrack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_hexadecimal
from .paths import Paths, read_unsigned

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

ENTRIES = Gauge("node_nf_conntrack_entries", "Number of connections that are being tracked.")
LIMIT = Gauge("node_nf_conntrack_entries_limit", "Maximum size of the connection tracking table, in entries.")
#: By the column of the file.
STATISTICS = {
    "found": Gauge("node_nf_conntrack_stat_found", "Number of lookups that found an entry."),
    "invalid": Gauge("node_nf_conntrack_stat_invalid", "Number of packets that cannot be tracked."),
    "ignore": Gauge(
        "node_nf_conntrack_stat_ignore", "Number of packets that belong to a connection that is already tracked."
    ),
    "insert": Gauge("node_nf_conntrack_stat_insert", "Number of entries inserted into the table."),
    "insert_failed": Gauge("node_nf_conntrack_stat_insert_failed", "Number of entries that could not be inserted."),
    "drop": Gauge("node_nf_conntrack_stat_drop", "Number of packets dropped because tracking failed."),
    "early_drop": Gauge("node_nf_conntrack_stat_early_drop", "Number of entries dropped to make room for new ones."),
    "search_restart": Gauge(
        "node_nf_conntrack_stat_search_restart", "Number of lookups restarted because the table was resized."
    ),
}


class Conntrack:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._settings = paths.in_proc("sys", "net", "netfilter")
        self._statistics = paths.in_proc("net", "stat", "nf_conntrack")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        entries = read_unsigned(f"{self._settings}/nf_conntrack_count", malformed)
        limit = read_unsigned(f"{self._settings}/nf_conntrack_max", malformed)
        if entries is None and limit is None and not malformed:
            raise NotAvailable
        if entries is not None:
            yield ENTRIES(entries)
        if limit is not None:
            yield LIMIT(limit)
        try:
            totals = parse_statistics(self._files.read(self._statistics), malformed)
        except (FileNotFoundError, PermissionError):
            totals = {}  # recent kernels can be built without the file
        for column, metric in STATISTICS.items():
            if column in totals:
                yield metric(totals[column])
        yield from malformed


def parse_statistics(text: str, malformed: MalformedValues) -> dict[str, int]:
    """The sum over all CPUs of each exported column (hexadecimal).

    A column with a malformed value has no sum. Columns are identified by name because their order and number differ
    between kernels (`clashres` used to be `searched`).
    """
    file = "/proc/net/stat/nf_conntrack"
    heading, _, rows = text.partition("\n")
    columns = heading.split()
    totals: dict[str, int] = {column: 0 for column in columns if column in STATISTICS}
    for column in [column for column in totals if columns.count(column) > 1]:
        malformed.add(file, heading)
        del totals[column]
    for row in filter(None, rows.split("\n")):
        words = row.split()
        if words == columns:
            malformed.add(file, row)
            continue
        if len(words) != len(columns):
            malformed.add(file, row)
            return {}
        for column, word in zip(columns, words, strict=True):
            if column in totals:
                value = parse_hexadecimal(word, f"{file}: {column}", malformed)
                if value is None:
                    del totals[column]
                else:
                    totals[column] += value
    return totals
