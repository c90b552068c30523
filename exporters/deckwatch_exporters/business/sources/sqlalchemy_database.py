"""Queries in any database that SQLAlchemy knows, with its driver installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deckwatch.exporter import BoundedCall, Unreachable
from deckwatch_exporters.business.rows import QueryFailed, Table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

#: What makes a transaction read-only, by dialect. Elsewhere the transaction is rolled back.
_READ_ONLY = {
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
}
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
            return call.result(self._timeout)
        except TimeoutError:
            self._hung = call
            raise QueryFailed(
                f"no result within {self._timeout:g} s. Make the query faster, or raise timeout."
            ) from None

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

    def _where(self) -> str:
        return self._engine.url.render_as_string(hide_password=True) if self._engine is not None else "the database"

    def _rows(self, engine: Engine, query: str, limit: int) -> Table:
        from sqlalchemy import exc, text

        try:
            with engine.connect() as connection:
                return _fetched(connection, text(query.replace(":", "\\:")), limit)
        except exc.DBAPIError as failure:
            reason = " ".join(str(failure.orig).split())[:_LONGEST]
            if failure.connection_invalidated or not isinstance(failure, (exc.ProgrammingError, exc.DataError)):
                if isinstance(failure, (exc.InternalError, exc.OperationalError)) and failure.statement is not None:
                    raise QueryFailed(f"{reason}. Check the query; it may only read.") from None
                raise Unreachable(f"{self._where()}: {reason}") from None
            raise QueryFailed(f"{reason}. Check the query.") from None
        except exc.SQLAlchemyError as failure:
            raise QueryFailed(f"{' '.join(str(failure).split())[:_LONGEST]}. Check the query.") from None


def _fetched(connection: Connection, statement: Any, limit: int) -> Table:
    from sqlalchemy import text

    read_only = _READ_ONLY.get(connection.dialect.name)
    if read_only is not None:
        connection.execute(text(read_only))
        connection.rollback()  # the setting is for the transactions that follow
    result = connection.execution_options(stream_results=True).execute(statement)
    if not result.returns_rows:
        raise QueryFailed("the query returns no rows. Queries may only read.")
    columns = tuple(result.keys())
    rows = [tuple(row) for row in result.fetchmany(limit + 1)]
    result.close()
    connection.rollback()
    return Table(columns, rows[:limit], is_cut=len(rows) > limit)
