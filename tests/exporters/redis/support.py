"""A Redis target as the agent would hold it, run when the test says so."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deckwatch.collection.run import NamedCollector, SeriesBudget, run_once
from deckwatch.exporter import Context, Scheduled
from deckwatch.metrics.encoding import Encoder
from deckwatch_exporters.redis import EXPORTER
from deckwatch_exporters.redis.server import UP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.collection.run import Snapshot
    from deckwatch.metrics.declaration import Sample
    from deckwatch_exporters.redis.settings import RedisSettings

FIXTURES = Path(__file__).parent / "fixtures"


class _Events(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append({**vars(record), "message": record.getMessage()})


class Target:
    """The collectors of one target. `events` is what they logged."""

    def __init__(self, url: str, **settings: Any) -> None:
        handler = _Events()
        logger = logging.Logger("redis-test", logging.INFO)
        logger.addHandler(handler)
        self.events = handler.records
        self.settings: RedisSettings = EXPORTER.settings.model_validate({"url": url, **settings})
        opened = EXPORTER.open(self.settings, Context("cache", logger=logger))
        self._close = opened.close
        self.collectors = {
            name if name == "redis" else f"redis.{name}": it.collector if isinstance(it, Scheduled) else it
            for name, it in opened.collectors.items()
        }
        self._encoders = {name: Encoder() for name in self.collectors}
        self._budget = SeriesBudget(20_000)

    def run(self, name: str = "redis") -> Snapshot:
        """One run of one collector."""
        named = NamedCollector(name, self.collectors[name], up=UP if name == "redis" else None)
        return run_once(named, self._encoders[name], self._budget)

    def cycle(self) -> dict[str, Snapshot]:
        """One run of every collector, in the agent's order."""
        return {name: self.run(name) for name in self.collectors}

    def values(self, name: str = "redis") -> dict[str, float]:
        """The values of a run that has to succeed, by series (`name{label="value"}`)."""
        snapshot = self.run(name)
        assert not snapshot.error, snapshot.error
        return by_series(sample for family in snapshot.families for sample in family.samples)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def by_series(samples: Iterable[Sample]) -> dict[str, float]:
    return {sample.series.text.rstrip(): sample.value for sample in samples}


def failed(snapshot: Snapshot) -> dict[str, float]:
    """What a run that has to fail exposed nevertheless."""
    assert snapshot.error
    return by_series(sample for family in snapshot.families for sample in family.samples)
