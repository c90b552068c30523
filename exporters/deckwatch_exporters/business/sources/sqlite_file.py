"""Queries in an SQLite file, opened read-only for each run."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import urllib.parse
from pathlib import Path

from deckwatch.exporter import Unreachable
from deckwatch_exporters.business.rows import QueryFailed, Table

_STEPS = 10_000  # virtual machine instructions between two looks at the clock


class SqliteSource:
    def __init__(self, path: str, timeout: float) -> None:
        self._path = Path(path)
        self._timeout = timeout

    def run(self, query: str, limit: int) -> Table:
        url = f"file:{urllib.parse.quote(str(self._path.absolute()))}?mode=ro"
        deadline = time.monotonic() + self._timeout
        try:
            with contextlib.closing(sqlite3.connect(url, uri=True, timeout=self._timeout)) as connection:
                connection.text_factory = _text
                connection.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
                cursor = connection.execute(query)
                rows = cursor.fetchmany(limit + 1)
                columns = tuple(column[0] for column in cursor.description or ())
        except (sqlite3.Error, sqlite3.Warning) as failure:
            raise self._explained(failure) from None
        return Table(columns, rows[:limit], is_cut=len(rows) > limit)

    def columns(self, query: str) -> tuple[str, ...]:
        return self.run(f"SELECT * FROM ({query.strip().rstrip(';')}\n) LIMIT 0", 0).columns

    def close(self) -> None:
        """Nothing is open between two runs."""

    def _explained(self, failure: Exception) -> Exception:
        reason = str(failure)
        if "unable to open" in reason or "not a database" in reason or "disk I/O" in reason:
            why = reason if self._path.exists() else "the file does not exist"
            return Unreachable(f"{self._path}: {why}. Check sqlite in the config.")
        if reason == "interrupted":
            return QueryFailed(f"no result within {self._timeout:g} s. Make the query faster, or raise timeout.")
        if "readonly" in reason:
            return QueryFailed("the query writes. Queries may only read.")
        if "locked" in reason:
            return QueryFailed("the database is locked by a writer. The query runs again at its next time.")
        return QueryFailed(f"{reason}. Check the query.")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
