"""PGMQ, from its own function in PostgreSQL (pgmq-extension/sql/pgmq.sql). It does not need the extension."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .postgres_broker import PostgresBroker, PostgresQueuesSettings

# Messages that are not visible were read and not deleted yet, or are delayed. PGMQ before 1.5 counts no visible ones.
_QUERY = """
SELECT queue_name AS queue,
       coalesce(visible, queue_length) AS length,
       queue_length - visible AS in_flight,
       CASE WHEN coalesce(visible, queue_length) > 0 THEN coalesce(oldest_msg_age_sec, 0) ELSE 0 END
           AS oldest_age_seconds,
       total_messages AS enqueued_total
FROM (
    SELECT *, (to_jsonb(metrics) ->> 'queue_visible_length')::bigint AS visible FROM pgmq.metrics_all() AS metrics
) AS queues
"""


class PgmqSettings(PostgresQueuesSettings):
    """PGMQ."""

    kind: Literal["pgmq"]
    queues: tuple[str, ...] = Field(default=(), description="Names of queues that are reported even while empty.")


def pgmq_broker(settings: PgmqSettings, shares: PostgresBroker | None = None) -> PostgresBroker:
    return PostgresBroker(settings, _QUERY, library="PGMQ", always=settings.queues, shares=shares)
