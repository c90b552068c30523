"""Queries in any database that SQLAlchemy knows, with its driver installed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import BoundedCall, Unreachable
from deckwatch_exporters.business.rows import QueryFailed, Table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_STEPS = 10_000  # of SQLite's virtual machine, between two looks at the clock
_GRACE = 1.0  # seconds after the timeout in which the database should have ended the query
_LONGEST = 500


class SqlAlchemySource:
    """One connection. Its driver decides how long connecting may take; a query that hangs costs one thread."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._engine: Engine | None = None
        self._hung: BoundedCall[Table] | None = None

    def run(self, query: str, limit: int) -> Table:
        engine = self._opened()
        self._await_hung_query()
        call = BoundedCall(lambda: self._rows(engine, query, limit), "sqlalchemy")
        try:
            return call.result(self._timeout + _GRACE)
        except TimeoutError:
            self._hung = call
            raise self._timed_out() from None

    def columns(self, query: str) -> tuple[str, ...]:
        return self.run(f"SELECT * FROM ({query.strip().rstrip(';')}\n) AS deckwatch WHERE 1 = 0", 0).columns

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def _opened(self) -> Engine:
        try:
            import sqlalchemy
        except ImportError as missing:
            raise Unreachable(f"{missing}. Run: pip install 'deckwatch[sql]'") from None
        if self._engine is None:
            try:
                self._engine = sqlalchemy.create_engine(self._url, pool_size=1, max_overflow=0, pool_pre_ping=True)
            except sqlalchemy.exc.ArgumentError:  # its message quotes the URL, which may hold the password
                raise Unreachable("SQLAlchemy cannot parse the URL. Check sqlalchemy in the config.") from None
            except ImportError as missing:
                raise Unreachable(f"{missing}. Install the database's driver with pip.") from None
        return self._engine

    def _await_hung_query(self) -> None:
        """Raises Unreachable while an earlier query hangs, so that it costs one connection and one thread."""
        if self._hung is not None:
            try:
                self._hung.result(0.0)
            except TimeoutError:
                raise Unreachable(f"{self._where()}: an earlier query has not ended") from None
            except (QueryFailed, Unreachable):
                pass
            self._hung = None

    def _timed_out(self) -> QueryFailed:
        return QueryFailed(f"no result within {self._timeout:g} s. Make the query faster, or raise timeout.")

    def _where(self) -> str:
        return self._engine.url.render_as_string(hide_password=True) if self._engine is not None else "the database"

    def _rows(self, engine: Engine, query: str, limit: int) -> Table:
        from sqlalchemy import exc, text

        try:
            with engine.connect() as connection:
                _restrict(connection, self._timeout)
                return _fetched(connection, text(query.replace(":", "\\:")), limit)
        except exc.DBAPIError as failure:
            if _is_timeout(failure.orig):
                raise self._timed_out() from None
            reason = " ".join(str(failure.orig).split())[:_LONGEST]
            if failure.connection_invalidated or not isinstance(failure, (exc.ProgrammingError, exc.DataError)):
                if isinstance(failure, (exc.InternalError, exc.OperationalError)) and failure.statement is not None:
                    raise QueryFailed(f"{reason}. Check the query; it may only read.") from None
                raise Unreachable(f"{self._where()}: {reason}") from None
            raise QueryFailed(f"{reason}. Check the query; it may only read.") from None
        except exc.SQLAlchemyError as failure:
            raise QueryFailed(f"{' '.join(str(failure).split())[:_LONGEST]}. Check the query.") from None


def _restrict(connection: Connection, timeout: float) -> None:
    """Make the session read-only and let the database end statements at the timeout, where it can do so."""
    from sqlalchemy import text

    deadline, milliseconds = time.monotonic() + timeout, round(timeout * 1000)
    dialect = connection.dialect
    statements: tuple[str, ...] = ()
    if dialect.name in ("mysql", "mariadb"):
        is_mariadb = getattr(dialect, "is_mariadb", False)  # also behind a URL that starts with mysql
        limit = f"max_statement_time = {timeout:g}" if is_mariadb else f"max_execution_time = {milliseconds}"
        statements = ("SET SESSION TRANSACTION READ ONLY", f"SET SESSION {limit}")
    elif dialect.name == "postgresql":
        read_only = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
        statements = (read_only, f"SET SESSION statement_timeout = {milliseconds}")
    elif dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
        statements = ("PRAGMA query_only = ON",)
    for statement in statements:
        connection.execute(text(statement))
    # The settings are for the transactions that follow. PostgreSQL would undo them at a rollback.
    connection.commit()


def _is_timeout(failure: object) -> bool:
    """Whether the database ended a statement: MariaDB 1969, MySQL 3024, PostgreSQL 57014, SQLite "interrupted"."""
    code = next(iter(getattr(failure, "args", ())), None)
    return code in (1969, 3024, "interrupted") or getattr(failure, "sqlstate", None) == "57014"


def _fetched(connection: Connection, statement: Any, limit: int) -> Table:
    result = connection.execution_options(stream_results=True).execute(statement)
    if not result.returns_rows:
        raise QueryFailed("the query returns no rows. Queries may only read.")
    columns = tuple(result.keys())
    rows = [tuple(row) for row in result.fetchmany(limit + 1)]
    result.close()
    connection.rollback()
    return Table(columns, rows[:limit], is_cut=len(rows) > limit)
