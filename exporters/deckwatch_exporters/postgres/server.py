"""Availability and version of the server, and the cost of monitoring it. Runs first and connects."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Missing, Unreachable, Untyped
from deckwatch_exporters.clients.libpq import MARK, NotConnected, QueryError, Session, number, text

from .sql_text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.exporter import Sample

UP = Gauge("pg_up", "Whether the server could be reached (1) or not (0).")
STATIC = Untyped(
    "pg_static", "Version of the server, as labels; the value is always 1.", ["server", "short_version", "version"]
)
START_TIME = Gauge("pg_postmaster_start_time_seconds", "Time at which the server started, in Unix seconds.", ["server"])
DURATION = Gauge("pg_exporter_last_scrape_duration_seconds", "Duration of the last collection, in seconds.")
ERROR = Gauge("pg_exporter_last_scrape_error", "Whether a query of the last collection failed (1) or not (0).")
SCRAPES = Counter("pg_exporter_scrapes_total", "Number of collections.")
QUERIES = Counter("pg_exporter_queries_total", "Number of queries that Deckwatch has sent to the server.")
QUERY_FAILURES = Counter("pg_exporter_query_failures_total", "Number of queries by Deckwatch that the server refused.")
CONNECTIONS = Counter("pg_exporter_connections_total", "Number of connections that Deckwatch has opened to the server.")

_WHO = f"""SELECT {MARK}
    pg_catalog.version(), extract(epoch FROM pg_catalog.pg_postmaster_start_time()), pg_catalog.current_database(),
    current_user,
    pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"""


class Server:
    """The connection that all collectors of one server share, and properties of the server and the role."""

    def __init__(self, conninfo: str, timeout: float, lock_timeout: float) -> None:
        self.session = Session(conninfo, timeout, lock_timeout, setup=self.learn)
        self.version_text = ""
        self.started = 0.0  # Unix seconds
        self.database = ""
        self.user = ""
        self.sees_all = False  # including the sessions and statements of other users
        self.databases: list[str] = []  # from DatabaseCollector; empty if it could not read them

    @property
    def label(self) -> str:
        return self.session.server

    @property
    def version(self) -> int:
        return self.session.version

    def learn(self, session: Session) -> None:
        (row,) = session.query(_WHO)
        started = _seconds(row[1])
        if started != self.started:
            session.generation += 1  # behind a pooler, the connection survives a new server
        self.version_text, self.started = text(row[0]), started
        self.database, self.user = text(row[2]), text(row[3])
        self.sees_all = row[4] == b"t"

    def needs_all_stats(self) -> None:
        """Raises Missing if other users' sessions are hidden: totals over the others would be wrong."""
        self.session.ensure()
        if not self.sees_all:
            raise Missing("the role sees only its own sessions", f"GRANT pg_monitor TO {quoted(self.user)}")


def _seconds(value: bytes | None) -> float:
    """0 if the server does not give it, as some compatible servers do not."""
    try:
        return number(value) or 0.0
    except ValueError:
        return 0.0


class ServerCollector:
    """Figures of the server as a whole. Its run starts a cycle and reports on the previous one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._scrapes = 0
        self._began = 0.0
        self._failures = 0

    def collect(self) -> Iterable[Sample]:
        server, session = self._server, self._server.session
        cost = session.cost
        duration = session.busy
        failed, self._failures = cost.failures > self._failures, cost.failures
        session.busy = 0.0
        self._began = time.monotonic()
        try:
            session.connect()
            if not server.sees_all:
                server.learn(session)  # the privilege may have been granted since
        except (NotConnected, QueryError) as failure:
            raise Unreachable(str(failure)) from None
        self._scrapes += 1
        short = re.search(r"\d+(?:\.\d+)*", server.version_text)
        yield STATIC(
            1,
            server=server.label,
            short_version=".".join((*short[0].split("."), "0", "0")[:3]) if short else "",
            version=server.version_text,
        )
        if server.started:
            yield START_TIME(server.started, server=server.label)
        if self._scrapes > 1:
            yield DURATION(duration)
            yield ERROR(failed)
        yield SCRAPES(self._scrapes)
        yield QUERIES(cost.queries)
        yield QUERY_FAILURES(cost.failures)
        yield CONNECTIONS(cost.connections)
