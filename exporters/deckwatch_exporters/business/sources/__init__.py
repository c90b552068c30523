"""Where figures come from. Each source runs a query in its own language and returns rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .json_document import JsonDocument
from .postgres import PostgresSource
from .redis_commands import RedisCommands
from .sqlalchemy_database import SqlAlchemySource
from .sqlite_file import SqliteSource

if TYPE_CHECKING:
    from deckwatch_exporters.business.rows import Table
    from deckwatch_exporters.business.settings import BusinessSettings


class Source(Protocol):
    """A source of rows. `limit` is the number of rows to read at most."""

    def run(self, query: str, limit: int) -> Table:
        """Raises Unreachable if the source does not answer, QueryFailed if it refuses the query."""
        ...

    def columns(self, query: str) -> tuple[str, ...]:
        """Prepare the query and return its columns. Raises what `run` raises."""
        ...

    def close(self) -> None: ...


class LockingSource(Source, Protocol):
    """A source that agents can agree at."""

    def hold(self, name: str, seconds: float) -> bool:
        """Take the lock of this name, or keep it, for about `seconds`. Raises what `run` raises."""
        ...


def source_of(settings: BusinessSettings) -> Source:
    """The source that the settings name."""
    if settings.dsn is not None:
        return PostgresSource(settings.dsn, settings.password, settings.search_path, settings.timeout)
    if settings.sqlite is not None:
        return SqliteSource(settings.sqlite, settings.timeout)
    if settings.sqlalchemy is not None:
        return SqlAlchemySource(settings.sqlalchemy.get_secret_value(), settings.timeout)
    if settings.redis is not None:
        return RedisCommands(settings.redis)
    assert settings.json_ is not None, "the settings have exactly one source"
    return JsonDocument(settings.json_, settings.timeout)
