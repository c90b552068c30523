"""Queues by the user's own query, for tables such as `events where not processed`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .postgres_broker import PostgresBroker, PostgresQueuesSettings


class SqlSettings(PostgresQueuesSettings):
    """A query that returns a row for each queue; its columns are the figures, `queue` is the name."""

    kind: Literal["sql"]
    query: str = Field(min_length=1)


def sql_broker(settings: SqlSettings, target: str) -> PostgresBroker:
    """Where the query does not name its queue, the queue is called like the target."""
    return PostgresBroker(settings, settings.query, name=target or "default")
