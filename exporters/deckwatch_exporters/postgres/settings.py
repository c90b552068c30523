"""The settings of one PostgreSQL server."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from deckwatch.exporter import Duration, Secret, Settings, Size
from deckwatch_exporters.clients.libpq import libpq_form

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

    dsn: Secret
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

    @field_validator("dsn")
    @classmethod
    def _is_a_dsn(cls, dsn: Secret) -> Secret:
        value = libpq_form(dsn.get_secret_value())
        if not re.match(r"postgres(ql)?://|\s*\w+\s*=", value):
            raise ValueError("a DSN such as postgresql://user@host:5432/database, or host=... user=... dbname=...")
        try:
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict
        except ImportError:
            return Secret(value)  # the first connection reports what to install
        # The messages of libpq quote the DSN, which may hold the password.
        try:
            parameters = conninfo_to_dict(value)
        except ProgrammingError:
            raise ValueError("a DSN that libpq can parse: see its list of connection parameters") from None
        if not re.fullmatch(r"\d*(,\d*)*", str(parameters.get("port") or "")):
            raise ValueError("a DSN with a number as the port (in a password, write : / @ as %3A %2F %40)")
        return Secret(value)

    @property
    def conninfo(self) -> str:
        """The DSN with the password, for libpq. Raises ImportError without psycopg."""
        from psycopg.conninfo import make_conninfo

        password = self.password.get_secret_value() if self.password else None
        return make_conninfo(self.dsn.get_secret_value(), **({"password": password} if password else {}))
