"""Oban for Elixir and Python, from its table in PostgreSQL (oban/queries/install.sql). Its times are in UTC."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .postgres_broker import PostgresBroker, PostgresQueuesSettings

# Jobs that are due stay `scheduled` or `retryable` until the leader makes them `available`. Completed and canceled
# jobs are not read.
_QUERY = """
SELECT queue,
       count(*) FILTER (WHERE is_waiting AND is_due) AS length,
       count(*) FILTER (WHERE state = 'executing') AS in_flight,
       coalesce(extract(epoch FROM moment - min(attempted_at) FILTER (WHERE state = 'executing')), 0)
           AS oldest_in_flight_age_seconds,
       count(*) FILTER (WHERE is_waiting AND NOT is_due) AS delayed,
       count(*) FILTER (WHERE state = 'discarded') AS dead,
       extract(epoch FROM moment - min(scheduled_at) FILTER (WHERE is_waiting AND is_due)) AS oldest_age_seconds
FROM (
    SELECT queue, state, scheduled_at, attempted_at, moment,
           state IN ('available', 'scheduled', 'retryable') AS is_waiting,
           state = 'available' OR scheduled_at <= moment AS is_due
    FROM oban_jobs, (SELECT timezone('UTC', now()) AS moment) AS clock
    WHERE state IN ('available', 'scheduled', 'retryable', 'executing', 'discarded')
) AS jobs
GROUP BY queue, moment
"""


class ObanSettings(PostgresQueuesSettings):
    """Oban. Its `prefix` goes into `search_path` where it is not `public`."""

    kind: Literal["oban"]
    queues: tuple[str, ...] = Field(default=(), description="Names of queues that are reported even while empty.")


def oban_broker(settings: ObanSettings, shares: PostgresBroker | None = None) -> PostgresBroker:
    return PostgresBroker(settings, _QUERY, library="Oban", always=settings.queues, shares=shares)
