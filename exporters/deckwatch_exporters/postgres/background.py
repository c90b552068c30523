"""The server's own work: background writer, checkpointer, archiver, and the WAL on disk.

PostgreSQL 17 moved the checkpoints from pg_stat_bgwriter to pg_stat_checkpointer, and what backends write themselves to
pg_stat_io. What a version does not have is absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Missing, NotAvailable
from deckwatch_exporters.clients.libpq import MARK, QueryError, Result, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deckwatch.exporter import Metric, Sample
    from deckwatch_exporters.clients.libpq import Session

    from .server import Server


def _bgwriter(column: str, help: str) -> Metric:
    return Counter(f"pg_stat_bgwriter_{column}_total", help, ["server"])


def _checkpointer(column: str, help: str) -> Metric:
    return Counter(f"pg_stat_checkpointer_{column}_total", help, ["server"])


#: By column of the query: those of pg_stat_bgwriter, 13 to 18. The first six are gone or elsewhere from 17 on.
BGWRITER: Mapping[str, Metric] = {
    "checkpoints_timed": _bgwriter("checkpoints_timed", "Checkpoints that were due."),
    "checkpoints_req": _bgwriter("checkpoints_req", "Checkpoints that were asked for."),
    "checkpoint_write_time": _bgwriter(
        "checkpoint_write_time", "Time that checkpoints spent writing files, in milliseconds."
    ),
    "checkpoint_sync_time": _bgwriter(
        "checkpoint_sync_time", "Time that checkpoints spent syncing files, in milliseconds."
    ),
    "buffers_checkpoint": _bgwriter("buffers_checkpoint", "Buffers that checkpoints wrote."),
    "buffers_backend": _bgwriter("buffers_backend", "Buffers that backends wrote themselves."),
    "buffers_backend_fsync": _bgwriter("buffers_backend_fsync", "Times that a backend had to sync a file itself."),
    "buffers_clean": _bgwriter("buffers_clean", "Buffers that the background writer wrote."),
    "maxwritten_clean": _bgwriter("maxwritten_clean", "Rounds that the background writer ended at its limit."),
    "buffers_alloc": _bgwriter("buffers_alloc", "Buffers that were allocated."),
    "bgwriter_reset": _bgwriter("stats_reset", "When these statistics were last reset, in Unix seconds."),
}
#: By column of the query: those of pg_stat_checkpointer, 17 and 18.
CHECKPOINTER: Mapping[str, Metric] = {
    "num_timed": _checkpointer("num_timed", "Checkpoints that were due."),
    "num_requested": _checkpointer("num_requested", "Checkpoints that were asked for."),
    "num_done": _checkpointer("num_done", "Checkpoints that were completed."),
    "restartpoints_timed": _checkpointer("restartpoints_timed", "Restartpoints that were due."),
    "restartpoints_req": _checkpointer("restartpoints_req", "Restartpoints that were asked for."),
    "restartpoints_done": _checkpointer("restartpoints_done", "Restartpoints that were performed."),
    "write_time": _checkpointer("write_time", "Time that checkpoints spent writing files, in milliseconds."),
    "sync_time": _checkpointer("sync_time", "Time that checkpoints spent syncing files, in milliseconds."),
    "buffers_written": _checkpointer("buffers_written", "Buffers that checkpoints and restartpoints wrote."),
    "slru_written": _checkpointer("slru_written", "SLRU buffers that checkpoints and restartpoints wrote."),
    "checkpointer_reset": _checkpointer("stats_reset", "When these statistics were last reset, in Unix seconds."),
}
ARCHIVED = Counter("pg_stat_archiver_archived_count", "WAL files that were archived.", ["server"])
ARCHIVE_FAILURES = Counter("pg_stat_archiver_failed_count", "Attempts to archive a WAL file that failed.", ["server"])
ARCHIVE_AGE = Gauge(
    "pg_stat_archiver_last_archive_age", "Time since a WAL file was last archived, in seconds.", ["server"]
)
ARCHIVE_TIME = Gauge(
    "pg_stat_archiver_last_archived_timestamp_seconds",
    "When a WAL file was last archived, in Unix seconds.",
    ["server"],
)
ARCHIVE_FAILURE_TIME = Gauge(
    "pg_stat_archiver_last_failed_timestamp_seconds", "When archiving last failed, in Unix seconds.", ["server"]
)
WAL_SEGMENTS = Gauge("pg_wal_segments", "WAL files on disk.", ["server"])
WAL_SIZE = Gauge("pg_wal_size_bytes", "Size of the WAL files on disk, in bytes.", ["server"])
WAL_POSITION = Counter(
    "pg_wal_position_bytes_total",
    "WAL written by a primary or replayed by a replica, as its position in bytes.",
    ["server"],
)

_METRICS: Mapping[str, Metric] = {
    **BGWRITER,
    **CHECKPOINTER,
    "archived_count": ARCHIVED,
    "failed_count": ARCHIVE_FAILURES,
    "last_archive_age": ARCHIVE_AGE,
    "last_archived": ARCHIVE_TIME,
    "last_failed": ARCHIVE_FAILURE_TIME,
    "wal_position": WAL_POSITION,
}

# What Supported takes: no two columns that are read may have the same name.
_BGWRITER_PART = "SELECT *, extract(epoch FROM stats_reset) AS bgwriter_reset FROM pg_stat_bgwriter"
_CHECKPOINTER_PART = "SELECT *, extract(epoch FROM stats_reset) AS checkpointer_reset FROM pg_stat_checkpointer"
_ARCHIVER_PART = """SELECT archived_count, failed_count,
    extract(epoch FROM now() - last_archived_time) AS last_archive_age,
    extract(epoch FROM last_archived_time) AS last_archived, extract(epoch FROM last_failed_time) AS last_failed
FROM pg_stat_archiver"""
_POSITION_PART = """SELECT pg_wal_lsn_diff(
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0') AS wal_position"""
_WAL_PART = "SELECT count(*) AS segments, sum(size) AS size FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"


#: feature_not_supported, and what Aurora answers for its WAL: "wal_level must be set to 'logical'".
_NOT_SUPPORTED = ("0A000", "55000")


class Supported:
    """Asks what not every provider's server can answer; what was refused is not asked again on the same connection.

    On Aurora all that has to do with the WAL fails: https://github.com/DataDog/integrations-core/issues/20356
    """

    def __init__(self) -> None:
        self._refused: set[str] = set()
        self._generation = -1

    def query(self, session: Session, parts: Sequence[str]) -> Result:
        """The rows of SELECTs side by side, of one statement: one without rows has NULL in its columns.

        Parts that are not supported have no columns; no part, no row. Raises NotConnected, QueryError.
        """
        session.ensure()
        if self._generation != session.generation:
            self._refused, self._generation = set(), session.generation
        try:
            return self._ask(session, parts)
        except QueryError as failure:
            if failure.sqlstate not in _NOT_SUPPORTED:
                raise
        for part in parts:
            try:
                self._ask(session, (part,))
            except QueryError as failure:
                if failure.sqlstate not in _NOT_SUPPORTED:
                    raise
                self._refused.add(part)
        return self._ask(session, parts)

    def _ask(self, session: Session, parts: Sequence[str]) -> Result:
        wanted = [part for part in parts if part not in self._refused]
        if not wanted:
            return Result((), [])
        joins = " ".join(f"LEFT JOIN ({part}) AS part{n} ON true" for n, part in enumerate(wanted))
        return session.query(f"SELECT {MARK} * FROM (SELECT) AS one_row {joins}")


class BackgroundCollector:
    """Named `bgwriter`, as the peer's."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._supported = Supported()

    def collect(self) -> Iterator[Sample]:
        session = self._server.session
        session.ensure()
        parts = [_BGWRITER_PART, _ARCHIVER_PART, _POSITION_PART]
        if self._server.version >= 170000:
            parts.append(_CHECKPOINTER_PART)
        for row in self._supported.query(session, parts).dicts():
            for column, metric in _METRICS.items():
                if (figure := number(row.get(column))) is not None:
                    yield metric(figure, server=self._server.label)


class WalCollector:
    """Lists the folder of the WAL, which takes pg_monitor."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._supported = Supported()

    def collect(self) -> Iterator[Sample]:
        try:
            files = self._supported.query(self._server.session, (_WAL_PART,)).rows
        except QueryError as failure:
            if failure.sqlstate != "42501":
                raise
            raise Missing("listing the WAL takes pg_monitor", f'GRANT pg_monitor TO "{self._server.user}"') from None
        if not files:
            raise NotAvailable("the server has no folder of WAL files")
        ((segments, size),) = files
        yield WAL_SEGMENTS(float(segments or 0), server=self._server.label)
        if size is not None:
            yield WAL_SIZE(float(size), server=self._server.label)
