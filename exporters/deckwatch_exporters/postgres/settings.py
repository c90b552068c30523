"""The settings of one PostgreSQL server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from deckwatch.exporter import Duration, Secret, Settings, Size
from deckwatch_exporters.clients.dsn import Dsn, conninfo, require_one_password

Count = Annotated[int, Field(ge=0)]


class StatementsSettings(Settings):
    """pg_stat_statements: the statements with their own series are the `top` by time, by calls and by blocks read."""

    enabled: bool = True
    top: Annotated[int, Field(ge=1, le=1000)] = 50
    top_by_calls: Annotated[int, Field(ge=0, le=1000)] = 10
    top_by_io: Annotated[int, Field(ge=0, le=1000)] = 10
    query_text: Literal["log", "label", "off"] = "log"
    text_bytes: Size = 4096
    redact: bool = True


class SlowQueriesSettings(Settings):
    """Queries slower than `thresholds.slow_query`, and sessions that wait for a lock longer than `blocked_after`."""

    enabled: bool = True
    redact: bool = True
    explain: bool = False
    blocked_after: Duration = 1.0


class TablesSettings(Settings):
    """Tables and indexes: the largest ones of each database have series."""

    enabled: bool = True
    top: Annotated[int, Field(ge=1, le=10_000)] = 100
    top_indexes: Count = 100
    sizes_interval: Duration = 60.0


class PostgresSettings(Settings):
    """A PostgreSQL server, through any of its databases. `lock_timeout` and `timeout` are in seconds."""

    dsn: Dsn
    password: Secret | None = None
    databases: Literal["all"] | tuple[str, ...] = ()
    exclude_databases: frozenset[str] = frozenset()
    databases_interval: Duration = 60.0
    timeout: Duration = 4.0
    lock_timeout: Duration = 0.1
    detailed_activity: bool = False
    statements: StatementsSettings = StatementsSettings()
    slow_queries: SlowQueriesSettings = SlowQueriesSettings()
    tables: TablesSettings = TablesSettings()

    @field_validator("statements", "slow_queries", "tables", mode="before")
    @classmethod
    def _is_on_or_off(cls, value: object) -> object:
        """`statements: off` is short for `statements: {enabled: off}`."""
        return {"enabled": value} if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one_password(self) -> PostgresSettings:
        require_one_password(self.dsn, self.password)
        return self

    @property
    def conninfo(self) -> str:
        """The DSN with the password, for libpq. Raises ImportError without psycopg."""
        return conninfo(self.dsn, self.password)
