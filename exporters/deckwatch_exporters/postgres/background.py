"""Background writer, checkpointer, archiver, and the WAL files on disk.

PostgreSQL 17 moved the checkpoints from pg_stat_bgwriter to pg_stat_checkpointer, and the writes by backends to
pg_stat_io. Metrics that a version does not have are absent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Missing, NotAvailable, Refresh
from deckwatch_exporters.clients.libpq import MARK, QueryError, Result
from deckwatch_exporters.clients.samples import samples

from .sql_text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deckwatch.exporter import Malformed, Metric, Sample
    from deckwatch_exporters.clients.libpq import Session

    from .server import Server


def _bgwriter(column: str, help: str) -> Metric:
    return Counter(f"pg_stat_bgwriter_{column}_total", help, ["server"])


def _checkpointer(column: str, help: str) -> Metric:
    return Counter(f"pg_stat_checkpointer_{column}_total", help, ["server"])


#: By column of pg_stat_bgwriter, 13 to 18. Since 17 the first seven are elsewhere or gone.
BGWRITER: Mapping[str, Metric] = {
    "checkpoints_timed": _bgwriter("checkpoints_timed", "Number of scheduled checkpoints."),
    "checkpoints_req": _bgwriter("checkpoints_req", "Number of requested checkpoints."),
    "checkpoint_write_time": _bgwriter(
        "checkpoint_write_time", "Time that checkpoints spent writing files to disk, in milliseconds."
    ),
    "checkpoint_sync_time": _bgwriter(
        "checkpoint_sync_time", "Time that checkpoints spent synchronizing files to disk, in milliseconds."
    ),
    "buffers_checkpoint": _bgwriter("buffers_checkpoint", "Number of buffers written during checkpoints."),
    "buffers_backend": _bgwriter("buffers_backend", "Number of buffers written directly by a backend."),
    "buffers_backend_fsync": _bgwriter(
        "buffers_backend_fsync", "Number of times a backend had to execute its own fsync call."
    ),
    "buffers_clean": _bgwriter("buffers_clean", "Number of buffers written by the background writer."),
    "maxwritten_clean": _bgwriter(
        "maxwritten_clean", "Number of times the background writer stopped a cleaning scan at its limit."
    ),
    "buffers_alloc": _bgwriter("buffers_alloc", "Number of buffers allocated."),
    "bgwriter_reset": _bgwriter("stats_reset", "Time at which these statistics were last reset, in Unix seconds."),
}
#: By column of pg_stat_checkpointer, 17 and 18.
CHECKPOINTER: Mapping[str, Metric] = {
    "num_timed": _checkpointer("num_timed", "Number of scheduled checkpoints."),
    "num_requested": _checkpointer("num_requested", "Number of requested checkpoints."),
    "num_done": _checkpointer("num_done", "Number of completed checkpoints."),
    "restartpoints_timed": _checkpointer("restartpoints_timed", "Number of scheduled restartpoints."),
    "restartpoints_req": _checkpointer("restartpoints_req", "Number of requested restartpoints."),
    "restartpoints_done": _checkpointer("restartpoints_done", "Number of completed restartpoints."),
    "write_time": _checkpointer(
        "write_time", "Time that checkpoints and restartpoints spent writing files, in milliseconds."
    ),
    "sync_time": _checkpointer(
        "sync_time", "Time that checkpoints and restartpoints spent synchronizing files, in milliseconds."
    ),
    "buffers_written": _checkpointer(
        "buffers_written", "Number of buffers written during checkpoints and restartpoints."
    ),
    "slru_written": _checkpointer(
        "slru_written", "Number of SLRU buffers written during checkpoints and restartpoints."
    ),
    "checkpointer_reset": _checkpointer(
        "stats_reset", "Time at which these statistics were last reset, in Unix seconds."
    ),
}
ARCHIVED = Counter("pg_stat_archiver_archived_count", "Number of WAL files that were archived.", ["server"])
ARCHIVE_FAILURES = Counter(
    "pg_stat_archiver_failed_count", "Number of failed attempts to archive a WAL file.", ["server"]
)
ARCHIVE_AGE = Gauge(
    "pg_stat_archiver_last_archive_age", "Time since the last WAL file was archived, in seconds.", ["server"]
)
ARCHIVE_TIME = Gauge(
    "pg_stat_archiver_last_archived_timestamp_seconds",
    "Time at which the last WAL file was archived, in Unix seconds.",
    ["server"],
)
ARCHIVE_FAILURE_TIME = Gauge(
    "pg_stat_archiver_last_failed_timestamp_seconds",
    "Time of the last failed attempt to archive a WAL file, in Unix seconds.",
    ["server"],
)
WAL_SEGMENTS = Gauge("pg_wal_segments", "Number of WAL files on disk.", ["server"])
WAL_SIZE = Gauge("pg_wal_size_bytes", "Total size of the WAL files on disk, in bytes.", ["server"])
WAL_POSITION = Counter(
    "pg_wal_position_bytes_total",
    "WAL position that a primary has written or a replica has replayed, in bytes.",
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

# Supported joins these: no two columns that are read may have the same name.
_BGWRITER_PART = "SELECT *, extract(epoch FROM stats_reset) AS bgwriter_reset FROM pg_catalog.pg_stat_bgwriter"
_CHECKPOINTER_PART = (
    "SELECT *, extract(epoch FROM stats_reset) AS checkpointer_reset FROM pg_catalog.pg_stat_checkpointer"
)
_ARCHIVER_PART = """SELECT archived_count, failed_count,
    extract(epoch FROM pg_catalog.now() - last_archived_time) AS last_archive_age,
    extract(epoch FROM last_archived_time) AS last_archived, extract(epoch FROM last_failed_time) AS last_failed
FROM pg_catalog.pg_stat_archiver"""
_POSITION_PART = """SELECT pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
    THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, '0/0') AS wal_position"""
_WAL_PART = (
    "SELECT pg_catalog.count(*) AS segments, pg_catalog.sum(size) AS size"
    " FROM pg_catalog.pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
)


#: feature_not_supported; object_not_in_prerequisite_state, the answer of Aurora ("wal_level must be set to 'logical'")
#: and of a server that is being promoted.
_NOT_SUPPORTED = ("0A000", "55000")
_RETRY_AFTER = 300.0  # seconds


class Supported:
    """Runs queries that not every provider's server supports. Unsupported ones are tried again after some minutes.

    On Aurora every query about the WAL fails: https://github.com/DataDog/integrations-core/issues/20356
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._refused: set[str] = set()
        self._refresh = Refresh(_RETRY_AFTER, clock)
        self._generation = -1

    def query(self, session: Session, parts: Sequence[str]) -> Result:
        """The rows of several SELECTs side by side; a SELECT without rows has NULL in its columns.

        Unsupported parts have no columns. If no part is supported there are no rows. Raises NotConnected, QueryError.
        """
        session.ensure()
        if self._generation != session.generation or self._refresh.is_due:
            self._refused, self._generation = set(), session.generation
            self._refresh.done()
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
    """The collector `bgwriter`, as in postgres_exporter."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._supported = Supported()

    def collect(self) -> Iterator[Sample | Malformed]:
        session = self._server.session
        session.ensure()
        parts = [_BGWRITER_PART, _ARCHIVER_PART, _POSITION_PART]
        if self._server.version >= 170000:
            parts.append(_CHECKPOINTER_PART)
        for row in self._supported.query(session, parts).dicts():
            yield from samples(((it, row.get(column)) for column, it in _METRICS.items()), server=self._server.label)


class WalCollector:
    """Lists the WAL directory, which requires pg_monitor."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._supported = Supported()

    def collect(self) -> Iterator[Sample | Malformed]:
        try:
            files = self._supported.query(self._server.session, (_WAL_PART,)).rows
        except QueryError as failure:
            if failure.sqlstate != "42501":
                raise
            grant = f"GRANT pg_monitor TO {quoted(self._server.user)}"
            raise Missing("listing the WAL directory requires pg_monitor", grant) from None
        if not files:
            raise NotAvailable("the server has no WAL directory")
        ((segments, size),) = files
        yield from samples(((WAL_SEGMENTS, segments), (WAL_SIZE, size)), server=self._server.label)
