"""A Redis target as in the agent, run on demand by the test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Malformed, Sample
from deckwatch.testing import THRESHOLDS, Opened
from deckwatch_exporters.redis import EXPORTER

if TYPE_CHECKING:
    from deckwatch.collection.run import Snapshot
    from deckwatch.exporter import Results

FIXTURES = Path(__file__).parent / "fixtures"


class Target(Opened):
    """The collectors of one target, `redis`, `redis.slowlog` and `redis.keys`."""

    def __init__(self, url: str, name: str = "cache", **settings: Any) -> None:
        super().__init__(EXPORTER, {"url": url, **settings}, THRESHOLDS, name)
        self._name = name

    @property
    def slow_commands(self) -> list[dict[str, Any]]:
        """The slow command events of this target."""
        return self.logged("redis.slow_command")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log records of this target with this event name."""
        return [it for it in self.events if it.get("event") == event and it["target"] == self._name]

    def run(self, name: str = "redis") -> Snapshot:
        """One run of one collector."""
        return self.collect(name).snapshots[name]

    def cycle(self) -> dict[str, Snapshot]:
        """One run of every collector, in the agent's order."""
        return self.collect().snapshots

    def values(self, name: str = "redis") -> dict[str, float]:
        """The values of a run that must succeed, by series (`name{label="value"}`)."""
        collected = self.collect(name)
        assert not collected.errors
        return collected.values

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def by_series(samples: Results) -> dict[str, float]:
    return {item.series.text.rstrip(): item.value for item in samples if isinstance(item, Sample)}


def malformed(samples: Results) -> list[tuple[str, str]]:
    return [(item.what, item.text) for item in samples if isinstance(item, Malformed)]


def failed(snapshot: Snapshot) -> dict[str, float]:
    """The values of a run that must fail, by series."""
    assert snapshot.error
    return by_series(sample for family in snapshot.families for sample in family.samples)
