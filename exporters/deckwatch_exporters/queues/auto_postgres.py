"""Whatever queue libraries use a PostgreSQL, found by their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from deckwatch.exporter import Finding, Malformed, Missing, Refresh

from .django_tasks import DjangoTasksSettings, django_tasks_broker
from .model import Queue
from .oban import ObanSettings, oban_broker
from .pgmq import PgmqSettings, pgmq_broker
from .postgres_broker import InvalidQuery, PostgresBroker, PostgresQueuesSettings
from .procrastinate import ProcrastinateSettings, procrastinate_broker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import Reported

# In the form of the other queries: a row for each library.
_LIBRARIES = """
SELECT kind AS queue, 1 AS length
FROM (VALUES ('django_tasks', to_regclass('django_tasks_database_dbtaskresult')::oid),
             ('oban', to_regclass('oban_jobs')::oid),
             ('pgmq', to_regprocedure('pgmq.metrics_all()')::oid),
             ('procrastinate', to_regclass('procrastinate_jobs')::oid)) AS known (kind, id)
WHERE id IS NOT NULL
"""


class AutoPostgresSettings(PostgresQueuesSettings):
    """A PostgreSQL, and any libraries with tables in `search_path`."""

    kind: Literal["auto"]


class AutoPostgresBroker:
    """Reads the queues of all libraries over one connection. Libraries are looked for every minute."""

    def __init__(self, settings: AutoPostgresSettings) -> None:
        shared = {name: getattr(settings, name) for name in PostgresQueuesSettings.model_fields}
        libraries = self._libraries = PostgresBroker(settings, _LIBRARIES)
        self._brokers = {
            "django_tasks": django_tasks_broker(DjangoTasksSettings(kind="django_tasks", **shared), libraries),
            "oban": oban_broker(ObanSettings(kind="oban", **shared), libraries),
            "pgmq": pgmq_broker(PgmqSettings(kind="pgmq", **shared), libraries),
            "procrastinate": procrastinate_broker(ProcrastinateSettings(kind="procrastinate", **shared), libraries),
        }
        self._due = Refresh(60.0)
        self._kinds: list[str] = []

    def read(self) -> Iterator[Reported]:
        for kind in self._used():
            try:
                found = list(self._brokers[kind].read())
            except (Missing, InvalidQuery) as failure:
                yield Malformed(kind, str(failure))
                self._due.reset()
                continue
            for item in found:
                if isinstance(item, Queue):
                    yield from item.samples(kind)
                else:
                    yield item

    def check(self) -> Iterator[Finding]:
        kinds = self._used()
        for kind in kinds:
            try:
                names = sorted(item.name for item in self._brokers[kind].read() if isinstance(item, Queue))
            except Missing as denied:
                yield Finding("missing", f"{kind}: {str(denied).removesuffix(f'; {denied.remedy}')}", denied.remedy)
            except InvalidQuery:
                continue  # the collector says so
            else:
                yield Finding("ok", f"{kind} queues: {', '.join(names[:20]) or 'none'}")
        if not kinds:
            yield Finding(
                "missing",
                f"no tables of {', '.join(self._brokers)} in this database",
                "check the database in dsn, and search_path",
            )

    def close(self) -> None:
        self._libraries.close()

    def _used(self) -> list[str]:
        if self._due.is_due:
            self._kinds = sorted(item.name for item in self._libraries.read() if isinstance(item, Queue))
            self._due.done()
        return self._kinds
