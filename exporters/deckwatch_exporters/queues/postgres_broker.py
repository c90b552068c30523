"""Queues in PostgreSQL: one query returns the values of each queue as columns."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from pydantic import Field

from deckwatch.exporter import Duration, Finding, Malformed, Missing, Secret, Settings
from deckwatch_exporters.clients.dsn import Dsn, conninfo
from deckwatch_exporters.clients.libpq import NotConnected, QueryError, Session, number, text

from .model import NOTHING_WAITS, Age, Queue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch_exporters.clients.libpq import Result

    from .model import Reported

#: The figures of a queue by the columns of a query. Beside them `queue` and OLDEST.
COLUMNS = {
    "length": "length",
    "in_flight": "in_flight",
    "oldest_in_flight_age_seconds": "oldest_in_flight",
    "delayed": "delayed",
    "dead": "dead",
    "consumers": "consumers",
    "enqueued_total": "enqueued",
    "processed_total": "processed",
}
NAME = "queue"
OLDEST = "oldest_age_seconds"

_TIMEOUT = "57014"
_READ_ONLY = "25006"
_FORBIDDEN = "42501"
_NO_TABLE = "42P01"
_NO_SCHEMA = "3F000"
_NO_FUNCTION = "42883"


class PostgresQueuesSettings(Settings):
    """The database that holds the queues."""

    dsn: Dsn
    password: Secret | None = None
    timeout: Duration = 4.0
    search_path: tuple[str, ...] = Field(default=("$user", "public"), min_length=1)


class InvalidQuery(Exception):
    """The server refuses the query, or its columns are not those of a queue."""


class PostgresBroker:
    """The queues that `query` returns, one in each row. A row without the column `queue` is the queue `name`.

    `library` is what made the tables; empty where the query is the user's own. The queues of `always` are empty while
    there is no row for them. `shares` is a broker of the same settings with the connection to use.
    """

    def __init__(
        self,
        settings: PostgresQueuesSettings,
        query: str,
        name: str = "",
        library: str = "",
        always: Sequence[str] = (),
        shares: PostgresBroker | None = None,
    ) -> None:
        self._settings = settings
        path = ", ".join('"' + schema.replace('"', '""') + '"' for schema in settings.search_path)
        # LOCAL: behind a pooler the server's session is another client's next.
        self._query = f"SET LOCAL search_path = {path};{query.strip().rstrip(';')}"
        self._name = name
        self._library = library
        self._always = always
        self._shares = shares
        self._session: Session | None = None

    def read(self) -> Iterator[Reported]:
        found: set[str] = set()
        for item in queues_of(self._rows(), self._name):
            if isinstance(item, Queue):
                found.add(item.name)
            yield item
        for name in dict.fromkeys(self._always):
            if name not in found:
                yield Queue(name, length=0.0, oldest=NOTHING_WAITS, in_flight=0.0, delayed=0.0, dead=0.0)

    def check(self) -> Iterator[Finding]:
        """The queues that there are. What is wrong with the query is the collector's to report."""
        try:
            names = sorted(item.name for item in self.read() if isinstance(item, Queue))
        except (InvalidQuery, Missing):
            return
        yield Finding("ok", f"queues: {', '.join(names[:20]) or 'none'}")

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def session(self) -> Session:
        """The open session. Raises NotConnected."""
        if self._shares is not None:
            return self._shares.session()
        if self._session is None:
            try:
                target = conninfo(self._settings.dsn, self._settings.password)
            except ImportError as missing:
                raise NotConnected(f"{missing}; pip install 'deckwatch[postgres]'") from None
            self._session = Session(target, self._settings.timeout)
        try:
            self._session.connect()
        except QueryError as failure:
            raise NotConnected(str(failure)) from None
        return self._session

    def _rows(self) -> Result:
        session = self.session()
        try:
            return session.query(self._query)
        except QueryError as failure:
            raise self._explained(failure) from None

    def _explained(self, failure: QueryError) -> Exception:
        match failure.sqlstate:
            case code if self._library and code in (_NO_TABLE, _NO_SCHEMA, _NO_FUNCTION):
                return Missing(
                    f"no tables of {self._library} in this database ({failure})",
                    "check the database in dsn, and search_path",
                )
            case code if code == _TIMEOUT:
                return InvalidQuery(f"{failure}. Make the query faster, or raise timeout")
            case code if code == _READ_ONLY:
                return InvalidQuery(f"{failure}. Queries may only read")
            case code if code == _FORBIDDEN:
                return Missing(str(failure), "GRANT SELECT on the tables of the query to the role in dsn")
        return InvalidQuery(f"the query failed: {failure}. Check query")


def queues_of(result: Result, default_name: str) -> Iterator[Reported]:
    """The queue of each row. Rows of the same queue are reported and left out. Raises InvalidQuery."""
    known = {NAME, OLDEST, *COLUMNS}
    if unknown := [column for column in result.columns if column not in known]:
        raise InvalidQuery(
            f"the query returns the column {unknown[0]!r}, which is not a column of a queue. "
            f"Rename or remove it; there are: {', '.join((NAME, OLDEST, *COLUMNS))}"
        )
    if twice := [column for column, count in Counter(result.columns).items() if count > 1]:
        raise InvalidQuery(f"the query returns the column {twice[0]!r} more than once")
    if set(result.columns) <= {NAME}:
        raise InvalidQuery(
            f"the query returns none of the columns of a queue. Valid columns: {', '.join((OLDEST, *COLUMNS))}"
        )
    rows = list(result.dicts())
    names = [text(row[NAME]) if NAME in row else default_name for row in rows]
    counts = Counter(names)
    for position, (name, row) in enumerate(zip(names, rows, strict=True), 1):
        if NAME in row and row[NAME] is None:
            yield Malformed(f"row {position}: queue", "NULL")
        elif counts[name] > 1:
            yield Malformed(f"row {position}: queue {name!r} is in {counts[name]} rows", name)
        else:
            yield from _queue(name, position, row)


def _queue(name: str, position: int, row: dict[str, bytes | None]) -> Iterator[Reported]:
    queue = Queue(name)
    for column, value in row.items():
        if column == NAME:
            continue
        try:
            figure = number(value)
        except ValueError:
            figure = math.nan
        if figure is None:
            continue
        if not math.isfinite(figure):
            yield Malformed(f"row {position}: {column} of queue {name!r}", text(value))
        elif column == OLDEST:
            queue.oldest = Age(max(0.0, figure), True)
        else:
            setattr(queue, COLUMNS[column], figure)
    if OLDEST in row and row[OLDEST] is None and queue.length == 0:
        queue.oldest = NOTHING_WAITS  # min() over no rows
    yield queue
