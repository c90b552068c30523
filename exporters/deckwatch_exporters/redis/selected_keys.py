"""The collector `redis.keys`: the keys, streams and groups of keys that the config selects."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Incomplete, Unreachable
from deckwatch_exporters.clients.redis.connection import ConnectionFailed

from .key_groups import group_samples
from .keys import count_samples, key_samples
from .keyspace import Keyspace
from .refusals import Refusals
from .server import KEY_GROUPS_DURATION
from .streams import stream_samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.exporter import Context, Results
    from deckwatch_exporters.clients.redis.connection import Connection

    from .facts import Facts
    from .settings import RedisSettings


class SelectedKeys:
    """Runs at its own interval and within limits, because its cost grows with the data."""

    def __init__(
        self,
        connection: Connection,
        facts: Facts,
        settings: RedisSettings,
        context: Context,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._facts = facts
        self._settings = settings
        self._context = context
        self._stopwatch = stopwatch
        self._refusals = Refusals(connection, context, settings.credentials[0] or "default", stopwatch)
        self._limited: set[str] = set()  # selections with limits that were logged

    def collect(self) -> Results:
        try:
            return list(self._samples())
        except ConnectionFailed as failure:
            raise Unreachable(str(failure)) from None

    def _samples(self) -> Results:
        settings = self._settings
        home = self._connection.address.db
        keyspace = Keyspace(self._connection, settings.scan, home, self._refusals, self._stopwatch)
        yield from key_samples(keyspace, settings.keys, self._facts.version)
        yield from count_samples(keyspace, settings.count_keys)
        yield from stream_samples(keyspace, settings.streams)
        yield from keyspace.cost()
        if settings.key_groups is not None:
            began = self._stopwatch()
            databases = settings.key_groups.databases or self._facts.databases or (home,)
            yield from group_samples(keyspace, settings.key_groups, databases)
            yield KEY_GROUPS_DURATION((self._stopwatch() - began) * 1000)
        yield from keyspace.malformed
        yield from self._refusals.key_samples()
        limits = keyspace.limits()
        self._log_limits(limits)
        for limit in limits.values():
            yield Incomplete(limit)

    def _log_limits(self, limits: dict[str, str]) -> None:
        """Log once what a scan left out; `limits` are texts by database and pattern."""
        for pattern in limits.keys() - self._limited:
            extra = {"event": "redis.scan_limited", "target": self._context.target, "pattern": pattern}
            self._context.logger.warning('redis "%s": %s.', self._context.target, limits[pattern], extra=extra)
        self._limited = set(limits)
