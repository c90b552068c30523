"""Generic plans of slow statements: the plan that does not depend on the values of the parameters.

`EXPLAIN (GENERIC_PLAN)` exists since PostgreSQL 16 and does not execute the statement:
https://www.postgresql.org/docs/current/sql-explain.html
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Missing
from deckwatch_exporters.clients.libpq import MARK, QueryError, text

from .statement_counts import find_extension

if TYPE_CHECKING:
    from collections.abc import Callable

    from .server import Server

_FIRST_VERSION = 160000
_EXPLAIN_AGAIN_AFTER = 3600.0  # seconds
_LONGEST_TEXT = 64 * 1024
_LARGEST_PLAN = 16 * 1024
# Only these can be explained, and only in these does pg_stat_statements replace the constants.
_EXPLAINABLE = re.compile(r"\s*(?:select|insert|update|delete|merge|with|values)\b", re.IGNORECASE)


class Plans:
    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._plans: dict[str, tuple[float, object]] = {}

    def of(self, datname: str, queryid: str) -> object | None:
        """The plan as JSON, at most once per hour for each statement of the DSN's database, otherwise None."""
        if self._server.version < _FIRST_VERSION or datname != self._server.database:
            return None
        known = self._plans.get(queryid)
        if known is not None and self._clock() - known[0] < _EXPLAIN_AGAIN_AFTER:
            return None  # an earlier event has it
        plan = self._explain(queryid)
        if len(self._plans) > 1000:
            self._plans.clear()
        self._plans[queryid] = self._clock(), plan
        return plan

    def _explain(self, queryid: str) -> object | None:
        session = self._server.session
        try:
            extension = find_extension(session, self._server.database)
            rows = session.query(extension.texts_query([queryid], _LONGEST_TEXT)).rows
            sql = text(rows[0][1]) if rows else ""
            # After a `;` the rest of the text would be executed.
            if not _EXPLAINABLE.match(sql) or len(sql) >= _LONGEST_TEXT or ";" in sql:
                return None
            # The statement was written for the search_path of the database and the role.
            path = f"SET LOCAL {MARK} search_path TO DEFAULT"
            answer = session.query(f"{path};EXPLAIN {MARK} (GENERIC_PLAN, FORMAT JSON) {sql}")
        except (QueryError, Missing):
            return None  # a dropped table, a parameter of unknown type, a missing privilege
        written = text(answer.rows[0][0]) if answer.rows else ""
        if not written or len(written) > _LARGEST_PLAN:
            return None
        try:
            plan: object = json.loads(written)
        except ValueError:
            return None
        return plan
