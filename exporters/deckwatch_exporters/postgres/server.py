"""Whether the server is up, what it is, and what watching it costs. Runs first, and makes the connection."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Missing, Unreachable, Untyped
from deckwatch_exporters.clients.libpq import MARK, NotConnected, QueryError, Session, number, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.exporter import Sample

UP = Gauge("pg_up", "Whether the last connection to the server was successful.")
STATIC = Untyped("pg_static", "The server's version, as labels.", ["server", "short_version", "version"])
START_TIME = Gauge("pg_postmaster_start_time_seconds", "When the server was started, in Unix seconds.", ["server"])
DURATION = Gauge("pg_exporter_last_scrape_duration_seconds", "Duration of the last collection, in seconds.")
ERROR = Gauge("pg_exporter_last_scrape_error", "Whether a query of the last collection failed.")
SCRAPES = Counter("pg_exporter_scrapes_total", "Collections so far.")
QUERIES = Counter("pg_exporter_queries_total", "Queries that Deckwatch has sent to the server.")
QUERY_FAILURES = Counter("pg_exporter_query_failures_total", "Queries of Deckwatch that the server refused.")
CONNECTIONS = Counter("pg_exporter_connections_total", "Connections that Deckwatch has made to the server.")

_WHO = f"""SELECT {MARK}
    version(), extract(epoch FROM pg_postmaster_start_time()), current_database(), current_user,
    pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"""


class Server:
    """What all collectors of one server share: the connection, and what was learnt from it when it was made."""

    def __init__(self, conninfo: str, timeout: float, lock_timeout: float) -> None:
        self.session = Session(conninfo, timeout, lock_timeout, setup=self.learn)
        self.version_text = ""
        self.started = 0.0  # Unix seconds
        self.database = ""
        self.user = ""
        self.sees_all = False  # the activity and the statements of other users
        self.databases: list[str] = []  # as DatabaseCollector read them in this cycle; none where it could not

    @property
    def label(self) -> str:
        return self.session.server

    @property
    def version(self) -> int:
        return self.session.version

    def learn(self, session: Session) -> None:
        (row,) = session.query(_WHO)
        started = number(row[1]) or 0.0
        if started != self.started:
            session.generation += 1  # a connection to a pooler outlives the server behind it
        self.version_text, self.started = text(row[0]), started
        self.database, self.user = text(row[2]), text(row[3])
        self.sees_all = row[4] == b"t"

    def needs_all_stats(self) -> None:
        """Raises Missing where other users' sessions are hidden: figures over the rest would be wrong."""
        self.session.ensure()
        if not self.sees_all:
            raise Missing("the role sees only its own sessions", f'GRANT pg_monitor TO "{self.user}"')


class ServerCollector:
    """`pg_up` and what belongs to the server as a whole. Its run begins a cycle, and reports on the last one."""

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
                server.learn(session)  # it may have been granted since
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
        yield START_TIME(server.started, server=server.label)
        if self._scrapes > 1:
            yield DURATION(duration)
            yield ERROR(failed)
        yield SCRAPES(self._scrapes)
        yield QUERIES(cost.queries)
        yield QUERY_FAILURES(cost.failures)
        yield CONNECTIONS(cost.connections)
