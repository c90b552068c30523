"""The settings of one PostgreSQL server."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from deckwatch.exporter import Duration, Secret, Settings, Size
from deckwatch_exporters.clients.libpq import checked_dsn, has_password

Count = Annotated[int, Field(ge=0)]


class StatementsSettings(Settings):
    """pg_stat_statements. `top` is by total time; those by calls and by blocks read are kept beside them."""

    enabled: bool = True
    top: Annotated[int, Field(ge=1, le=1000)] = 50
    top_by_calls: Annotated[int, Field(ge=0, le=1000)] = 10
    top_by_io: Annotated[int, Field(ge=0, le=1000)] = 10
    query_text: Literal["log", "label", "off"] = "log"
    text_bytes: Size = 4096
    redact: bool = True
    interval: Duration | None = None


class SlowQueriesSettings(Settings):
    """Queries that take longer than `thresholds.slow_query`."""

    enabled: bool = True
    redact: bool = True
    explain: bool = False
    blocked_after: Duration = 1.0


class TablesSettings(Settings):
    """Tables and indexes: of each database the `top` largest ones."""

    enabled: bool = True
    top: Annotated[int, Field(ge=1, le=10_000)] = 100
    top_indexes: Count = 100
    sizes_interval: Duration = 60.0


class PostgresSettings(Settings):
    """A PostgreSQL server, through any of its databases."""

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

    @field_validator("dsn")
    @classmethod
    def _is_a_dsn(cls, dsn: Secret) -> Secret:
        example = "a DSN such as postgresql://user@host:5432/database, or host=... user=... dbname=..."
        value = checked_dsn(dsn.get_secret_value(), example)
        try:
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict
        except ImportError:
            return Secret(value)  # the first connection says what to install
        # What libpq says of a wrong one (of a wrong port when it connects) quotes it, and perhaps the password.
        try:
            parameters = conninfo_to_dict(value)
        except ProgrammingError:
            raise ValueError("a DSN that libpq understands: see its list of connection parameters") from None
        if not re.fullmatch(r"\d*(,\d*)*", str(parameters.get("port") or "")):
            raise ValueError("a DSN whose port is a number (write : / @ of a password as %3A %2F %40)")
        return Secret(value)

    @model_validator(mode="after")
    def _one_password(self) -> PostgresSettings:
        if self.password is not None and self.password.get_secret_value() and has_password(self.dsn.get_secret_value()):
            raise ValueError("only one of: a password in dsn, password (or password_file)")
        return self

    @property
    def conninfo(self) -> str:
        """What libpq takes, the password filled in. Raises ImportError without psycopg."""
        from psycopg.conninfo import make_conninfo

        password = self.password.get_secret_value() if self.password else None
        return make_conninfo(self.dsn.get_secret_value(), **({"password": password} if password else {}))
