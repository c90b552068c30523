"""The probe `redis.keys`: what the config asks to know of keys, streams and groups of keys."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Unreachable
from deckwatch_exporters.clients.redis.connection import ConnectionFailed

from .key_groups import group_samples
from .keys import count_samples, key_samples
from .keyspace import Keyspace
from .server import KEY_GROUPS_DURATION
from .streams import stream_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.redis.connection import Connection

    from .facts import Facts
    from .settings import RedisSettings


class SelectedKeys:
    """Has an interval of its own, and limits on everything: what it looks at grows with the data."""

    def __init__(
        self,
        connection: Connection,
        facts: Facts,
        settings: RedisSettings,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._facts = facts
        self._settings = settings
        self._stopwatch = stopwatch

    def collect(self) -> list[Sample]:
        try:
            return list(self._samples())
        except ConnectionFailed as failure:
            raise Unreachable(str(failure)) from None

    def _samples(self) -> Iterator[Sample]:
        settings = self._settings
        home = self._connection.address.db
        keyspace = Keyspace(self._connection, settings.scan, home, self._stopwatch)
        yield from key_samples(keyspace, settings.keys, self._facts.version)
        yield from count_samples(keyspace, settings.count_keys)
        yield from stream_samples(keyspace, settings.streams)
        yield from keyspace.cost()
        if settings.key_groups is not None:
            began = self._stopwatch()
            databases = settings.key_groups.databases or self._facts.databases or (home,)
            yield from group_samples(keyspace, settings.key_groups, databases)
            yield KEY_GROUPS_DURATION((self._stopwatch() - began) * 1000)
