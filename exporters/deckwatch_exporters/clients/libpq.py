"""One connection to a PostgreSQL server: every query read-only, with timeouts on both sides, in one round trip.

The simple query protocol is spoken. Behind a pooler the limits are set by `SET LOCAL` in the same message as the query:
nothing of them outlives it, so that a PgBouncer in transaction mode, which gives the server connection to somebody else
next, passes nothing on. The wait for an answer is our own (`poll` on the socket with a deadline): a server whose
processes are frozen keeps its TCP connections open, and neither `statement_timeout` nor TCP notices.
"""

from __future__ import annotations

import re
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg
    from psycopg.pq.abc import PGconn, PGresult

APPLICATION_NAME = "deckwatch"
#: In each of our own statements, so that pg_stat_statements' entries for them are known and left out of the figures.
MARK = "/* deckwatch */"
# Comments do not count for a queryid. This is nothing that anybody else asks, as a plain SELECT 1 would be.
_PID_QUERY = f"SELECT {MARK} pg_backend_pid(), '{APPLICATION_NAME}'"

#: How long a connection may owe an answer before it is given up for a new one (seconds).
_PATIENCE = 60.0
_MARGIN = 1.0  # the server's own timeout comes first, where it has one
_AGAIN = 2.0  # seconds after which a connection that failed is worth another try within a cycle
# What to check for each TLS failure that libpq reports (fe-secure-common.c and fe-secure-openssl.c).
_TLS_CHECKS = {
    "certificate verify failed": "Check sslrootcert in the DSN, and whether the server's certificate has expired",
    "root certificate file": "Check sslrootcert in the DSN",
    "does not match host name": "Check host in the DSN",
}

_HOST = re.compile(r"(?:\[[^\[\]@]*\]|[^\[\]:@#\s]*)(?::[0-9]*)?")

Row = tuple["bytes | None", ...]


class NotConnected(Unreachable):
    """There is no connection, and this is not the query that makes one."""


class QueryError(Exception):
    """The server refused a query. `sqlstate` is PostgreSQL's five-character code (appendix A of its manual)."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{message} (SQLSTATE {sqlstate})" if sqlstate else message)
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class Result:
    """What a query gave: rows of undecoded text, None for NULL."""

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
    """A number or truth value of PostgreSQL's text output; None for NULL."""
    if value is None:
        return None
    if value == b"t":
        return 1.0
    if value == b"f":
        return 0.0
    return float(value)


def text(value: bytes | None) -> str:
    """Text as the server sent it; `` for NULL.

    A database in SQL_ASCII may hold bytes that are no UTF-8. They become escapes, so that names that differ in them
    still differ.
    """
    return "" if value is None else value.decode("utf-8", "backslashreplace")


@dataclass
class Cost:
    """What watching costs the server, since the agent started."""

    queries: int = 0
    failures: int = 0
    connections: int = 0


class Session:
    """A connection that is kept, and rebuilt when it breaks. Used by one thread at a time.

    `timeout` is how long a statement may run and `lock_timeout` how long it may wait for a lock (seconds). `setup` is
    run on each new connection, and is what a caller knows of the server.
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
        self._settings = {
            "statement_timeout": f"{timeout * 1000:.0f}",
            "lock_timeout": f"{lock_timeout * 1000:.0f}",
            "default_transaction_read_only": "on",
        }
        self._has_limits = limits
        self._prefix = ""
        self._setup = setup
        self._clock = clock
        self._connection: psycopg.Connection[Any] | None = None
        self._pgconn: PGconn | None = None
        self._poll = select.poll()
        self._owes_since: float | None = None
        self._tried = float("-inf")  # when a connection was last tried for
        self.cost = Cost()
        self.busy = 0.0  # seconds spent waiting for answers, since somebody set it to 0
        self.server = ""  # host:port, as the peer's `server` label has it
        self.version = 0  # 150004 for 15.4
        self.generation = 0  # counts connections: what was learnt from an older one may be wrong

    def connect(self) -> None:
        """Make sure that there is a connection that can be used. Raises NotConnected with the reason."""
        if self._pgconn is not None:
            self._settle()
        if self._pgconn is not None:
            if self._prefix and self._setup is not None:
                self._setup(self)  # behind a pooler, another server may answer by now
        else:
            try:
                self._open()
            finally:
                self._tried = self._clock()

    def ensure(self) -> None:
        """Connect, unless that was tried a moment ago: a dead server costs a cycle one timeout. Raises NotConnected."""
        if self._pgconn is None and self._clock() - self._tried > _AGAIN:
            self.connect()
        if self._pgconn is None or self._owes_since is not None:
            raise NotConnected("no connection to the server")

    def query(self, sql: str) -> Result:
        """The rows of one SELECT or SHOW. Raises NotConnected, QueryError."""
        return self.queries((sql,))[0]

    def queries(self, statements: Sequence[str]) -> list[Result]:
        """The rows of each statement, asked for in one message: all of them, or the failure of the first that fails."""
        self.ensure()
        import psycopg  # loaded by now

        pgconn = self._pgconn
        assert pgconn is not None
        self.cost.queries += len(statements)
        asked = self._clock()
        try:
            pgconn.send_query((self._prefix + ";".join(statements)).encode())
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
            raise QueryError("", "the server answered without a table")
        return results[-len(statements) :]

    def close(self) -> None:
        connection, self._connection, self._pgconn, self._owes_since = self._connection, None, None, None
        if connection is not None:
            connection.close()

    def _open(self) -> None:
        try:
            import psycopg
        except ImportError as missing:
            raise NotConnected(f"{missing}; pip install 'deckwatch[postgres]'") from None
        try:
            connection = psycopg.connect(
                self._conninfo,
                autocommit=True,
                application_name=APPLICATION_NAME,
                client_encoding="utf-8",
                connect_timeout=max(2, round(self._timeout)),  # libpq takes 1 for 2
                # A host that is gone tells nobody: TCP has to ask.
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=20_000,
            )
        except psycopg.ProgrammingError:
            # What libpq says of it quotes the DSN, and with it perhaps the password.
            raise NotConnected("the DSN is not one that libpq understands") from None
        except (psycopg.Error, OSError) as failure:
            raise NotConnected(_first_line(failure)) from None
        self._connection, self._pgconn = connection, connection.pgconn
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)
        self._owes_since = None
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
        """Once for the session, unless a pooler stands between: then with each message, for its transaction.

        A pooler tells its clients a process id of its own making.
        """
        self._prefix = ""
        settings = self._settings
        if pgconn.parameter_status(b"server_encoding") == b"SQL_ASCII":
            # Its bytes may be no UTF-8, and one name that is none would fail all that are asked for with it.
            settings = settings | {"client_encoding": "SQL_ASCII"}
        ((pid, _),) = self.query(_PID_QUERY)
        if int(pid or 0) == pgconn.backend_pid:
            statements = ";".join(f"SET {MARK} {name}={value}" for name, value in settings.items())
            self.queries((f"{statements};{_PID_QUERY}",))
            return
        local = {**settings, "transaction_read_only": "on"}
        del local["default_transaction_read_only"]
        # One message is one implicit transaction: what is set here is gone when the answer is complete.
        self._prefix = "".join(f"SET LOCAL {MARK} {name}={value};" for name, value in local.items())

    def _settle(self) -> None:
        """Take in the answer that is still owed. A frozen server is not asked anew, or its sessions would pile up."""
        assert self._pgconn is not None
        if self._owes_since is None:
            # A server that went away in the meantime has said so on the socket.
            self._read_notices()
            return
        try:
            self._read(self._pgconn, self._clock() + self._timeout)
        except QueryError:
            pass  # the timeout that the server noticed in the end
        except NotConnected:
            if self._pgconn is not None and self._clock() - self._owes_since > _PATIENCE:
                self.close()
            if self._pgconn is not None:
                raise

    def _read_notices(self) -> None:
        from psycopg import OperationalError

        assert self._pgconn is not None
        try:
            while self._poll.poll(0):  # its last words first, then the end of the stream
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
                    results.append(_rows(result))
                elif result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY):
                    state = result.error_field(pq.DiagnosticField.SQLSTATE)
                    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
                    error = QueryError(text(state), text(message) or result.get_error_message())
        except OperationalError as failure:
            self.close()
            raise NotConnected(_first_line(failure)) from None
        self._owes_since = None
        if pgconn.status != pq.ConnStatus.OK:
            self.close()
            raise NotConnected(str(error or "the connection broke"))
        if error is not None:
            raise error
        return results

    def _await(self, pgconn: PGconn, deadline: float) -> None:
        """Wait for a result. What of the query did not fit into the socket's buffer is sent meanwhile."""
        while (is_unsent := pgconn.flush()) or pgconn.is_busy():
            left = deadline - self._clock()
            self._poll.modify(pgconn.socket, select.POLLIN | select.POLLOUT if is_unsent else select.POLLIN)
            if left <= 0 or not self._poll.poll(left * 1000):
                self._owes_since = self._owes_since or self._clock()
                raise NotConnected(f"no answer within {self._timeout:g} s")
            pgconn.consume_input()


def _rows(result: PGresult) -> Result:
    get, columns = result.get_value, range(result.nfields)
    return Result(
        tuple((result.fname(column) or b"").decode() for column in columns),
        [tuple([get(row, column) for column in columns]) for row in range(result.ntuples)],
    )


def _first_line(failure: BaseException) -> str:
    """What libpq says, without the hints that follow. It names host, port and user, never the password."""
    line = str(failure).strip().split("\n", 1)[0]
    checks = (check for words, check in _TLS_CHECKS.items() if words in line)
    return ". ".join((line, *checks))


def checked_dsn(dsn: str, example: str) -> str:
    """A DSN in libpq's form, checked without libpq. Raises ValueError; nothing of the DSN is repeated."""
    value = libpq_form(dsn)
    _, is_uri, rest = value.partition("://")
    if not re.match(r"postgres(ql)?://|\s*\w+\s*=", value):
        raise ValueError(example)
    if is_uri and not _is_clear(rest):
        raise ValueError("a DSN with : / ? # [ ] @ in a user or password as %3A %2F %3F %23 %5B %5D %40")
    return value


def has_password(dsn: str) -> bool:
    """Whether a DSN in libpq's form holds a password."""
    _, is_uri, rest = dsn.partition("://")
    if not is_uri:
        return re.search(r"(?:^|\s)password\s*=\s*\S", dsn) is not None
    user, has_user, _ = rest.partition("/")[0].partition("@")
    return bool(has_user and user.partition(":")[2]) or re.search(r"[?&]password=[^&]", rest) is not None


def _is_clear(rest: str) -> bool:
    """Whether libpq and every other reader split what follows the scheme in the same way.

    libpq ends the user and password at the first `@`, others at the last one, or at `/`, `?` or `#` before it.
    """
    authority, _, path = rest.partition("/")
    user, has_user, hosts = authority.partition("@")
    if not has_user:
        hosts = authority
    if any(character in user for character in "?#[] ") and has_user:
        return False
    if "@" in path.partition("?")[0] or "#" in path:
        return False
    return all(_HOST.fullmatch(host) for host in hosts.partition("?")[0].split(",")) and "@" not in hosts


def libpq_form(dsn: str) -> str:
    """SQLAlchemy's and Django's `postgresql+psycopg://` as libpq has it."""
    return re.sub(r"^(postgres(?:ql)?|postgis)(\+\w+)?://", "postgresql://", dsn)
