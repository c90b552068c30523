"""Queries in PostgreSQL: read-only, with a timeout, and no more rows than asked for."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from deckwatch_exporters.business.rows import QueryFailed, Table
from deckwatch_exporters.clients.dsn import conninfo
from deckwatch_exporters.clients.libpq import NotConnected, QueryError, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.exporter import Secret
    from deckwatch_exporters.clients.libpq import Result

_ENDS_IDLE_SESSIONS = 140_000  # the version with idle_session_timeout
#: A lock that the session has is not taken again: it would have to be released as often.
_HOLD = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
    WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid() AND granted AND objsubid = 1
    AND (classid::int8 << 32 | objid::int8) = {key}) OR pg_catalog.pg_try_advisory_lock({key})
"""
_TIMEOUT = "57014"
_READ_ONLY = "25006"
_FORBIDDEN = "42501"
_LOCKED = "55P03"
#: Classes of transient errors: connections, resources, the operator's intervention, and recovery conflicts.
_TRANSIENT = ("08", "53", "57P", "40")


class PostgresSource:
    def __init__(self, dsn: Secret, password: Secret | None, search_path: Sequence[str], timeout: float) -> None:
        self._dsn = dsn
        self._password = password
        path = ", ".join('"' + schema.replace('"', '""') + '"' for schema in search_path)
        self._set_path = f"SET LOCAL search_path = {path};"
        self._timeout = timeout
        self._session: Session | None = None
        self._limited = (0, 0.0)  # the connection, and the time after which the server ends it

    def run(self, query: str, limit: int) -> Table:
        result = self._fetch(query, limit + 1)
        return Table(result.columns, result.rows[:limit], is_cut=len(result) > limit)

    def columns(self, query: str) -> tuple[str, ...]:
        return self._fetch(query, 0).columns

    def _fetch(self, query: str, rows: int) -> Result:
        session = self._connected()
        text = query.strip().rstrip(";")
        try:
            # A cursor fetches no more rows than needed, however many there are, and refuses what is not a query.
            return session.query(
                f"{self._set_path}DECLARE deckwatch NO SCROLL CURSOR FOR {text}\n;"
                f"FETCH FORWARD {rows} FROM deckwatch;CLOSE deckwatch"
            )
        except QueryError as failure:
            raise self._explained(failure, text) from None

    def hold(self, name: str, seconds: float) -> bool:
        """Take the lock of this name, or keep it. Another agent can have it if this one does not ask for `seconds`.

        The lock is the session's. If this process is frozen, the server ends the session (PostgreSQL 14 and later).
        Raises Unreachable, QueryFailed.
        """
        session = self._connected()
        key = int.from_bytes(hashlib.sha256(f"deckwatch {name}".encode()).digest()[:8], "big", signed=True)
        try:
            if session.is_pooled:
                raise QueryFailed("singleton needs a session, which a pooler does not give. Let dsn name the server.")
            if session.version >= _ENDS_IDLE_SESSIONS and (session.generation, seconds) != self._limited:
                session.query(f"SET idle_session_timeout = '{seconds * 1000:.0f}'; SELECT 1")
                self._limited = session.generation, seconds
            ((is_held,),) = session.query(_HOLD.format(key=key))
        except QueryError as failure:
            raise self._explained(failure, "select") from None
        return is_held == b"t"

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _connected(self) -> Session:
        if self._session is None:
            try:
                target = conninfo(self._dsn, self._password)
            except ImportError as missing:
                raise NotConnected(f"{missing}. Run: pip install 'deckwatch[postgres]'") from None
            self._session = Session(target, self._timeout)
        try:
            self._session.connect()
        except QueryError as failure:
            raise NotConnected(str(failure)) from None
        return self._session

    def _explained(self, failure: QueryError, query: str) -> Exception:
        code = failure.sqlstate
        if code == _TIMEOUT:
            return QueryFailed(f"no result within {self._timeout:g} s. Make the query faster, or raise timeout.")
        if code == _LOCKED:
            return QueryFailed(f"the query waits for a lock: {failure}. It runs again at its next time.")
        if code == _READ_ONLY or not re.match(r"(?i)\W*(select|with|values|table)\b", query):
            return QueryFailed(f"the query writes or is not a query: {failure}. Queries may only read.")
        if code == _FORBIDDEN:
            return QueryFailed(f"{failure}. GRANT SELECT on its tables to the role in dsn.")
        if code.startswith(_TRANSIENT):
            return NotConnected(str(failure))
        return QueryFailed(f"{failure}. Check the query.")
