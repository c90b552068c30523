"""Procrastinate, from its tables in PostgreSQL (procrastinate/sql/schema.sql)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .postgres_broker import PostgresBroker, PostgresQueuesSettings

# The enqueue time of a job without a scheduled time is that of its first event. Jobs that succeeded are not read.
_QUERY = """
WITH queues AS (
    SELECT queue_name,
           count(*) FILTER (WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())) AS length,
           count(*) FILTER (WHERE status = 'doing') AS in_flight,
           count(*) FILTER (WHERE status = 'todo' AND scheduled_at > now()) AS delayed,
           count(*) FILTER (WHERE status = 'failed') AS dead,
           min(scheduled_at) FILTER (WHERE status = 'todo' AND scheduled_at <= now()) AS oldest_scheduled,
           min(id) FILTER (WHERE status = 'todo' AND scheduled_at IS NULL) AS oldest_id
    FROM procrastinate_jobs
    WHERE status IN ('todo', 'doing', 'failed')
    GROUP BY queue_name
)
SELECT queue_name AS queue, length, in_flight, delayed, dead,
       extract(epoch FROM now() - least(
           oldest_scheduled,
           (SELECT min(at) FROM procrastinate_events AS event WHERE event.job_id = oldest_id AND type = 'deferred')
       )) AS oldest_age_seconds
FROM queues
"""


class ProcrastinateSettings(PostgresQueuesSettings):
    """Procrastinate. Its schema goes into `search_path` where it is not `public`."""

    kind: Literal["procrastinate"]
    queues: tuple[str, ...] = Field(default=(), description="Names of queues that are reported even while empty.")


def procrastinate_broker(settings: ProcrastinateSettings, shares: PostgresBroker | None = None) -> PostgresBroker:
    return PostgresBroker(settings, _QUERY, library="Procrastinate", always=settings.queues, shares=shares)
