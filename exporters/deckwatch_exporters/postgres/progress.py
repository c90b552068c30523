"""Progress of running VACUUMs.

https://www.postgresql.org/docs/current/progress-reporting.html#VACUUM-PROGRESS-REPORTING
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.libpq import MARK, text
from deckwatch_exporters.clients.samples import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Malformed, Sample

    from .activity import Activity
    from .server import Server

_LABELS = ("server", "datname", "relname")
PHASE = Gauge(
    "pg_stat_progress_vacuum_phase",
    "Phase of the VACUUM: 1 for the current phase, 0 for the others.",
    [*_LABELS, "phase"],
)
#: By column of pg_stat_progress_vacuum. Since 17 it counts bytes of dead tuples instead of tuples.
COLUMNS = {
    "heap_blks_total": Gauge("pg_stat_progress_vacuum_heap_blks", "Total number of heap blocks in the table.", _LABELS),
    "heap_blks_scanned": Gauge(
        "pg_stat_progress_vacuum_heap_blks_scanned", "Number of heap blocks scanned so far.", _LABELS
    ),
    "heap_blks_vacuumed": Gauge(
        "pg_stat_progress_vacuum_heap_blks_vacuumed", "Number of heap blocks vacuumed so far.", _LABELS
    ),
    "index_vacuum_count": Gauge(
        "pg_stat_progress_vacuum_index_vacuums", "Number of completed index vacuum cycles.", _LABELS
    ),
    "max_dead_tuples": Gauge(
        "pg_stat_progress_vacuum_max_dead_tuples",
        "Number of dead tuples that fit into memory before an index vacuum cycle.",
        _LABELS,
    ),
    "num_dead_tuples": Gauge(
        "pg_stat_progress_vacuum_num_dead_tuples",
        "Number of dead tuples found since the last index vacuum cycle.",
        _LABELS,
    ),
    "max_dead_tuple_bytes": Gauge(
        "pg_stat_progress_vacuum_max_dead_tuple_bytes",
        "Dead tuples that fit into memory before an index vacuum cycle, in bytes.",
        _LABELS,
    ),
    "dead_tuple_bytes": Gauge(
        "pg_stat_progress_vacuum_dead_tuple_bytes",
        "Dead tuples found since the last index vacuum cycle, in bytes.",
        _LABELS,
    ),
}
PHASES = (
    "initializing", "scanning heap", "vacuuming indexes", "vacuuming heap", "cleaning up indexes", "truncating heap",
    "performing final cleanup",
)  # fmt: skip

# The name as ::regclass gives it with the default search_path. Tables of other databases are known by their oid only.
_QUERY = f"""SELECT {MARK} v.*, CASE WHEN c.oid IS NULL THEN v.relid::text
    WHEN n.nspname IN ('public', 'pg_catalog') THEN pg_catalog.quote_ident(c.relname)
    ELSE pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) END AS relname
FROM pg_catalog.pg_stat_progress_vacuum AS v
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = v.relid AND v.datname = pg_catalog.current_database()
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"""


class VacuumCollector:
    def __init__(self, server: Server, activity: Activity) -> None:
        self._server = server
        self._activity = activity

    def collect(self) -> Iterator[Sample | Malformed]:
        self._server.needs_all_stats()
        if not self._activity.vacuums:
            return
        for row in self._server.session.query(_QUERY).dicts():
            labels = {"server": self._server.label, "datname": text(row["datname"]), "relname": text(row["relname"])}
            now = text(row["phase"])
            for phase in PHASES:
                yield PHASE(phase == now, **labels, phase=phase)
            yield from samples(((metric, row.get(column)) for column, metric in COLUMNS.items()), **labels)
