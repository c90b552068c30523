"""How far running VACUUMs are.

https://www.postgresql.org/docs/current/progress-reporting.html#VACUUM-PROGRESS-REPORTING
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.libpq import MARK, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

    from .activity import Activity
    from .server import Server

_LABELS = ("server", "datname", "relname")
PHASE = Gauge("pg_stat_progress_vacuum_phase", "1 for the phase that the VACUUM is in.", [*_LABELS, "phase"])
#: By column of pg_stat_progress_vacuum, in all versions. 17 counts bytes of dead tuples instead of the tuples.
COLUMNS = {
    "heap_blks_total": Gauge("pg_stat_progress_vacuum_heap_blks", "Blocks of the table.", _LABELS),
    "heap_blks_scanned": Gauge("pg_stat_progress_vacuum_heap_blks_scanned", "Blocks that were scanned.", _LABELS),
    "heap_blks_vacuumed": Gauge("pg_stat_progress_vacuum_heap_blks_vacuumed", "Blocks that were vacuumed.", _LABELS),
    "index_vacuum_count": Gauge("pg_stat_progress_vacuum_index_vacuums", "Completed rounds over the indexes.", _LABELS),
    "max_dead_tuples": Gauge(
        "pg_stat_progress_vacuum_max_dead_tuples", "Dead tuples that fit until a round over the indexes.", _LABELS
    ),
    "num_dead_tuples": Gauge("pg_stat_progress_vacuum_num_dead_tuples", "Dead tuples found so far.", _LABELS),
    "max_dead_tuple_bytes": Gauge(
        "pg_stat_progress_vacuum_max_dead_tuple_bytes", "Dead tuples that fit, in bytes.", _LABELS
    ),
    "dead_tuple_bytes": Gauge(
        "pg_stat_progress_vacuum_dead_tuple_bytes", "Dead tuples found so far, in bytes.", _LABELS
    ),
}
PHASES = (
    "initializing", "scanning heap", "vacuuming indexes", "vacuuming heap", "cleaning up indexes", "truncating heap",
    "performing final cleanup",
)  # fmt: skip

# The table as ::regclass has it, whatever the search_path is. Those of other databases are known by number alone.
_QUERY = f"""SELECT {MARK} v.*, CASE WHEN c.oid IS NULL THEN v.relid::text
    WHEN n.nspname IN ('public', 'pg_catalog') THEN quote_ident(c.relname)
    ELSE quote_ident(n.nspname) || '.' || quote_ident(c.relname) END AS relname
FROM pg_stat_progress_vacuum AS v LEFT JOIN pg_class AS c ON c.oid = v.relid AND v.datname = current_database()
    LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace"""


class VacuumCollector:
    def __init__(self, server: Server, activity: Activity) -> None:
        self._server = server
        self._activity = activity

    def collect(self) -> Iterator[Sample]:
        self._server.needs_all_stats()
        if not self._activity.vacuums:
            return
        for row in self._server.session.query(_QUERY).dicts():
            labels = {"server": self._server.label, "datname": text(row["datname"]), "relname": text(row["relname"])}
            now = text(row["phase"])
            for phase in PHASES:
                yield PHASE(phase == now, **labels, phase=phase)
            for column, metric in COLUMNS.items():
                if (value := number(row.get(column))) is not None:
                    yield metric(value, **labels)
