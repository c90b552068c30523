"""Django's background tasks in the database backend of django-tasks-db, from its table in PostgreSQL."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .postgres_broker import PostgresBroker, PostgresQueuesSettings

# A task without a run_after has one in the year 9999 (get_date_max() in django_tasks_db/models.py). Successful tasks
# are not read.
_QUERY = """
SELECT queue_name AS queue,
       count(*) FILTER (WHERE status = 'READY' AND is_due) AS length,
       count(*) FILTER (WHERE status = 'RUNNING') AS in_flight,
       coalesce(extract(epoch FROM now() - min(started_at) FILTER (WHERE status = 'RUNNING')), 0)
           AS oldest_in_flight_age_seconds,
       count(*) FILTER (WHERE status = 'READY' AND NOT is_due) AS delayed,
       count(*) FILTER (WHERE status = 'FAILED') AS dead,
       extract(epoch FROM now() - min(CASE WHEN run_after <= now() THEN run_after ELSE enqueued_at END)
           FILTER (WHERE status = 'READY' AND is_due)) AS oldest_age_seconds
FROM (
    SELECT *, run_after <= now() OR run_after >= '9999-01-01 00:00:00+00' AS is_due
    FROM django_tasks_database_dbtaskresult
    WHERE status IN ('READY', 'RUNNING', 'FAILED')
) AS tasks
GROUP BY queue_name
"""


class DjangoTasksSettings(PostgresQueuesSettings):
    """Django's tasks. Their schema goes into `search_path` where it is not `public`."""

    kind: Literal["django_tasks"]
    queues: tuple[str, ...] = Field(default=(), description="Names of queues that are reported even while empty.")


def django_tasks_broker(settings: DjangoTasksSettings, shares: PostgresBroker | None = None) -> PostgresBroker:
    return PostgresBroker(settings, _QUERY, library="django-tasks", always=settings.queues, shares=shares)
