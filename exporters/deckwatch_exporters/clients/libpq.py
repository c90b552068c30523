"""A connection to a PostgreSQL server that runs read-only queries with timeouts, each in one round trip.

The session sets everything that could change a result, so the settings of the role and of the database do not matter.
Behind a pooler, `SET LOCAL` in the same message as the query does this: a PgBouncer in transaction mode gives the
server connection to another client next, and must not pass the settings on.

It uses the simple query protocol, and waits for answers with `poll` and its own deadline: a server with frozen
processes keeps its TCP connections open, and neither `statement_timeout` nor TCP keepalives notice.
"""

from __future__ import annotations

import re
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Unreachable
from deckwatch_exporters.clients.encodings import as_utf8, codec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import psycopg
    from psycopg.pq.abc import PGconn, PGresult

APPLICATION_NAME = "deckwatch"
#: Part of each of Deckwatch's statements, so that their entries in pg_stat_statements can be left out.
MARK = "/* deckwatch */"
# A queryid ignores comments: the constant keeps the entry apart from other clients' SELECT pg_backend_pid().
_PID_QUERY = f"SELECT {MARK} pg_catalog.pg_backend_pid(), '{APPLICATION_NAME}'"

#: How long to wait for an overdue answer before replacing the connection (seconds).
_LONGEST_WAIT = 60.0
_MARGIN = 1.0  # lets the server's own timeout fire first
_RETRY_AFTER = 2.0  # seconds between two attempts to connect within a cycle
# A session of any role in any database: setting to value, in the order in which they are set. The isolation comes
# first: a hot standby refuses every query of a serializable transaction.
_SETTINGS = {
    "search_path": "pg_catalog, pg_temp",  # pg_temp is searched first unless it is named
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "client_min_messages": "warning",
    "idle_in_transaction_session_timeout": "0",
    "max_parallel_workers_per_gather": "0",  # workers see the settings of the session with another source
}
#: By the first version that has them.
_NEWER_SETTINGS = {
    140000: {"idle_session_timeout": "0"},  # would end the session between two scrapes
    150000: {"stats_fetch_consistency": "cache"},
    170000: {"transaction_timeout": "0"},
}
# What to check for each TLS failure that libpq reports (fe-secure-common.c and fe-secure-openssl.c).
_TLS_CHECKS = {
    "certificate verify failed": "Check sslrootcert in the DSN, and whether the server's certificate has expired",
    "root certificate file": "Check sslrootcert in the DSN",
    "does not match host name": "Check host in the DSN",
}


Row = tuple["bytes | None", ...]


class NotConnected(Unreachable):
    """There is no usable connection to the server."""


class QueryError(Exception):
    """The server refused a query. `sqlstate` is PostgreSQL's five-character code (appendix A of its manual)."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{message} (SQLSTATE {sqlstate})" if sqlstate else message)
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class Result:
    """The rows of a query, as UTF-8 text; None for NULL."""

    columns: tuple[str, ...]
    rows: list[Row]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def dicts(self) -> Iterator[dict[str, bytes | None]]:
        for row in self.rows:
            yield dict(zip(self.columns, row, strict=True))


def number(value: bytes | None) -> float | None:
    """A number or boolean in PostgreSQL's text format; None for NULL. Raises ValueError."""
    if value is None:
        return None
    if value == b"t":
        return 1.0
    if value == b"f":
        return 0.0
    return float(value)


def text(value: bytes | None) -> str:
    """Text as the server sent it; `` for NULL.

    Bytes that are not UTF-8, as in an SQL_ASCII database, become escapes: names that differ only in them stay distinct.
    """
    return "" if value is None else value.decode("utf-8", "backslashreplace")


@dataclass
class Cost:
    """What monitoring has cost the server since the agent started."""

    queries: int = 0
    failures: int = 0
    connections: int = 0


class Session:
    """A persistent connection that is replaced when it breaks. Use it from one thread at a time.

    `timeout` limits how long a statement runs and `lock_timeout` how long it waits for a lock (seconds). `setup` runs
    on each new connection. Without `limits` no settings are sent: PgBouncer's console knows none.
    """

    def __init__(
        self,
        conninfo: str,
        timeout: float,
        lock_timeout: float = 0.1,
        *,
        limits: bool = True,
        setup: Callable[[Session], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._conninfo = conninfo
        self._timeout = timeout
        self._lock_timeout = lock_timeout
        self._has_limits = limits
        self._prefix = ""  # precedes each query behind a pooler
        self._codec = "utf-8"
        self._setup = setup
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._pgconn: PGconn | None = None
        self._poll = select.poll()
        self._overdue_since: float | None = None  # an answer
        self._tried = float("-inf")  # when the last attempt to connect ended
        self.cost = Cost()
        self.busy = 0.0  # seconds spent waiting for answers since this was last set to 0
        self.server = ""  # host:port, the `server` label of postgres_exporter
        self.version = 0  # 150004 for 15.4
        self.generation = 0  # number of the connection: anything read from an earlier one may be wrong

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is in between, so that what a session keeps is lost."""
        return bool(self._prefix)

    def connect(self) -> None:
        """Connect if necessary. Raises NotConnected with the reason."""
        if self._pgconn is not None:
            self._settle()
        if self._pgconn is not None:
            if self._prefix and self._setup is not None:
                self._setup(self)  # a pooler may lead to another server by now
        else:
            try:
                self._open()
            finally:
                self._tried = self._clock()

    def ensure(self) -> None:
        """Connect, unless an attempt has just failed: a dead server costs a cycle one timeout. Raises NotConnected."""
        if self._pgconn is None and self._clock() - self._tried > _RETRY_AFTER:
            self.connect()
        if self._pgconn is None or self._overdue_since is not None:
            raise NotConnected("no connection to the server")

    def query(self, sql: str) -> Result:
        """The rows of one SELECT or SHOW. Raises NotConnected, QueryError."""
        return self.queries((sql,))[0]

    def queries(self, statements: Sequence[str]) -> list[Result]:
        """The rows of each statement, sent in one message. Raises NotConnected, QueryError for the first that fails."""
        self.ensure()
        import psycopg

        pgconn = self._pgconn
        assert pgconn is not None
        self.cost.queries += len(statements)
        asked = self._clock()
        try:
            pgconn.send_query((self._prefix + ";".join(statements)).encode(self._codec, "backslashreplace"))
            results = self._read(pgconn, asked + self._timeout + (_MARGIN if self._has_limits else 0.0))
        except psycopg.OperationalError as failure:
            self.close()
            raise NotConnected(_first_line(failure)) from None
        except QueryError:
            self.cost.failures += 1
            raise
        finally:
            self.busy += self._clock() - asked
        if len(results) < len(statements):  # the answers to SET have no columns
            raise QueryError("", "the server returned no result set")
        return results[-len(statements) :]

    def close(self) -> None:
        connection, self._connection, self._pgconn, self._overdue_since = self._connection, None, None, None
        if connection is not None:
            connection.close()

    def _open(self) -> None:
        try:
            import psycopg
        except ImportError as missing:
            raise NotConnected(f"{missing}. Run: pip install 'deckwatch[postgres]'") from None
        try:
            connection = psycopg.connect(
                self._conninfo,
                autocommit=True,
                application_name=APPLICATION_NAME,
                # No conversion: one character that the client's encoding lacks would fail the whole query.
                client_encoding="SQL_ASCII",
                connect_timeout=max(2, round(self._timeout)),  # libpq's minimum is 2
                # Only TCP keepalives notice that a host is gone.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=20_000,
            )
        except psycopg.ProgrammingError:
            # libpq's message quotes the DSN, which may hold the password.
            raise NotConnected("libpq cannot parse the DSN. Check dsn in the config.") from None
        except (psycopg.Error, OSError) as failure:
            raise NotConnected(_first_line(failure)) from None
        self._connection, self._pgconn = connection, connection.pgconn
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)
        self._overdue_since = None
        self._prefix = ""
        encoding = text(self._pgconn.parameter_status(b"server_encoding"))
        self._codec = codec_of(encoding)
        info = connection.info
        self.server = f"{info.host}:{info.port}"
        self.version = self._pgconn.server_version
        self.generation += 1
        self.cost.connections += 1
        try:
            if self._has_limits:
                self._set_limits(self._pgconn)
            if self._setup is not None:
                self._setup(self)
        except (NotConnected, QueryError):
            self.close()
            raise

    def _set_limits(self, pgconn: PGconn) -> None:
        """Set everything for the session; behind a pooler, for the transaction of each message.

        A pooler reports a process id that is not the server's.
        """
        settings = {**_SETTINGS}
        for version, newer in _NEWER_SETTINGS.items():
            if self.version >= version:
                settings |= newer
        settings["statement_timeout"] = f"{self._timeout * 1000:.0f}"
        settings["lock_timeout"] = f"{self._lock_timeout * 1000:.0f}"
        transaction = {"isolation": "read committed", "deferrable": "off", "read_only": "on"}
        # One message is one implicit transaction, at the end of which these settings are undone.
        self._prefix = _statements("SET LOCAL", {f"transaction_{name}": it for name, it in transaction.items()})
        self._prefix += _statements("SET LOCAL", settings)
        ((pid, _),) = self.query(_PID_QUERY)
        if int(pid or 0) == pgconn.backend_pid:
            lasting = {f"default_transaction_{name}": it for name, it in transaction.items()} | settings
            self.query(_statements("SET", lasting) + _PID_QUERY)
            self._prefix = ""

    def _settle(self) -> None:
        """Read the answer that is overdue. A frozen server gets no new connection, or its sessions would pile up."""
        assert self._pgconn is not None
        if self._overdue_since is None:
            # A server that has shut down since has left a message and closed the socket.
            self._read_notices()
            return
        try:
            self._read(self._pgconn, self._clock() + self._timeout)
        except QueryError:
            pass  # the server's own timeout
        except NotConnected:
            if self._pgconn is not None and self._clock() - self._overdue_since > _LONGEST_WAIT:
                self.close()
            if self._pgconn is not None:
                raise

    def _read_notices(self) -> None:
        from psycopg import OperationalError

        assert self._pgconn is not None
        try:
            while self._poll.poll(0):  # the server's last message, then the end of the stream
                self._pgconn.consume_input()
        except OperationalError:
            self.close()

    def _read(self, pgconn: PGconn, deadline: float) -> list[Result]:
        from psycopg import OperationalError, pq

        results: list[Result] = []
        error: QueryError | None = None
        try:
            while True:
                self._await(pgconn, deadline)
                result = pgconn.get_result()
                if result is None:
                    break
                if result.status == pq.ExecStatus.TUPLES_OK:
                    results.append(_rows(result, self._codec))
                elif result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY):
                    state = result.error_field(pq.DiagnosticField.SQLSTATE)
                    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
                    error = QueryError(text(state), text(message) or result.get_error_message())
        except OperationalError as failure:
            self.close()
            raise NotConnected(_first_line(failure)) from None
        self._overdue_since = None
        if pgconn.status != pq.ConnStatus.OK:
            self.close()
            raise NotConnected(str(error or "the connection broke"))
        if error is not None:
            raise error
        return results

    def _await(self, pgconn: PGconn, deadline: float) -> None:
        """Wait for a result, and send the rest of a query that did not fit into the socket's buffer."""
        while (is_unsent := pgconn.flush()) or pgconn.is_busy():
            left = deadline - self._clock()
            self._poll.modify(pgconn.socket, select.POLLIN | select.POLLOUT if is_unsent else select.POLLIN)
            if left <= 0 or not self._poll.poll(left * 1000):
                self._overdue_since = self._overdue_since or self._clock()
                raise NotConnected(f"no answer within {self._timeout:g} s")
            pgconn.consume_input()


def _statements(command: str, settings: Mapping[str, str]) -> str:
    return "".join(f"{command} {MARK} {name}={_value(value)};" for name, value in settings.items())


def _value(value: str) -> str:
    """The value of a SET. A list of names is not quoted as a whole."""
    return value if "," in value else f"'{value}'"


def _rows(result: PGresult, codec: str) -> Result:
    get, columns = result.get_value, range(result.nfields)
    rows: list[Row] = [tuple([get(row, column) for column in columns]) for row in range(result.ntuples)]
    if codec != "utf-8":
        rows = [tuple([as_utf8(value, codec) for value in row]) for row in rows]
    return Result(tuple((result.fname(column) or b"").decode() for column in columns), rows)


def _first_line(failure: BaseException) -> str:
    """The first line of a libpq message. It names host, port and user, never the password."""
    line = str(failure).strip().split("\n", 1)[0]
    checks = (check for words, check in _TLS_CHECKS.items() if words in line)
    return ". ".join((line, *checks))


def libpq_form(dsn: str) -> str:
    """The DSN for libpq of a URL for SQLAlchemy or Django, such as `postgresql+psycopg://`."""
    return re.sub(r"^(postgres(?:ql)?|postgis)(\+\w+)?://", "postgresql://", dsn)
