"""The generic plan of a slow statement: what the planner would do for any values of its parameters.

`EXPLAIN (GENERIC_PLAN)` is there from PostgreSQL 16 on, and does not execute the statement:
https://www.postgresql.org/docs/current/sql-explain.html
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from deckwatch_exporters.clients.libpq import MARK, QueryError, text

from .statement_counts import find_extension

if TYPE_CHECKING:
    from collections.abc import Callable

    from .server import Server

_FIRST_VERSION = 160000
_AGAIN = 3600.0  # seconds: a plan changes with the statistics, not with each run
_LONGEST_TEXT = 64 * 1024
_LARGEST_PLAN = 16 * 1024
# Without one of these, EXPLAIN has nothing to show; and only these have their constants replaced.
_EXPLAINABLE = re.compile(r"\s*(?:select|insert|update|delete|merge|with|values)\b", re.IGNORECASE)


class Plans:
    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._plans: dict[str, tuple[float, object]] = {}

    def of(self, datname: str, queryid: str) -> object | None:
        """The plan as EXPLAIN's JSON, at most once an hour for each statement of the DSN's own database."""
        if self._server.version < _FIRST_VERSION or datname != self._server.database:
            return None
        known = self._plans.get(queryid)
        if known is not None and self._clock() - known[0] < _AGAIN:
            return None  # told with an earlier event
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
            # A `;` could end the EXPLAIN, and what follows would be executed.
            if not _EXPLAINABLE.match(sql) or len(sql) >= _LONGEST_TEXT or ";" in sql:
                return None
            # Its tables are found where the database's and the role's search_path say, not where ours does.
            path = f"SET LOCAL {MARK} search_path TO DEFAULT"
            answer = session.query(f"{path};EXPLAIN {MARK} (GENERIC_PLAN, FORMAT JSON) {sql}")
        except QueryError:
            return None  # a table that is gone, a parameter whose type cannot be told, a lack of privilege
        written = text(answer.rows[0][0]) if answer.rows else ""
        if not written or len(written) > _LARGEST_PLAN:
            return None
        plan: object = json.loads(written)
        return plan
