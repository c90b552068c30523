"""Test kit for exporter authors: open an exporter, run its collectors as the agent does, look at what they gave.

with opened(EXPORTER, {"wells": ["north"]}) as target:
    collected = target.collect()
    assert collected.value("well_depth_meters", well="north") == 12.5
    collected.assert_declared()
    assert_golden(collected.exposition(), Path("golden/well.txt"))
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

from deckwatch.collection.run import SeriesBudget, run_once
from deckwatch.collection.targets import open_target
from deckwatch.config.model import TargetConfig
from deckwatch.metrics.declaration import Metric
from deckwatch.metrics.encoding import Encoder, text_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from deckwatch.collection.run import NamedCollector, Snapshot
    from deckwatch.exporter import Exporter, Sample
    from deckwatch.metrics.encoding import Family

#: The default thresholds of an agent.
THRESHOLDS = {"cpu_ratio": 0.8, "process_memory_bytes": 512 * 1024**2, "slow_query": 1.0, "cache_hit_ratio": 0.8}


class Collected:
    """What one run of some collectors gave. `snapshots` are by the collector's name."""

    def __init__(self, exporter: Exporter[Any], snapshots: Mapping[str, Snapshot]) -> None:
        self.snapshots = dict(snapshots)
        self._exporter = exporter

    @property
    def samples(self) -> list[Sample]:
        return [sample for family in self._families() for sample in family.samples]

    @property
    def errors(self) -> dict[str, str]:
        """The errors of the collectors that failed, by name."""
        return {name: snapshot.error for name, snapshot in self.snapshots.items() if snapshot.error}

    @property
    def failed(self) -> str:
        """Why what was measured counts as failed, for the first collector that yields `Failed`."""
        return next((snapshot.failed for snapshot in self.snapshots.values() if snapshot.failed), "")

    @property
    def malformed(self) -> list[str]:
        """What could not be parsed."""
        return [it.what for snapshot in self.snapshots.values() for it in snapshot.malformed]

    @property
    def values(self) -> dict[str, float]:
        """Values by series: `name` or `name{label="value"}`."""
        return {sample.series.text.rstrip(): sample.value for sample in self.samples}

    def value(self, name: str, **labels: str) -> float:
        """The value of the only series of this name with these labels. Raises AssertionError."""
        found = [
            sample.value
            for sample in self.samples
            if sample.series.name == name and labels.items() <= dict(sample.series.labels).items()
        ]
        assert len(found) == 1, f"{len(found)} series of {name} with the labels {labels}"
        return found[0]

    def exposition(self) -> str:
        """Text format 0.0.4, sorted by metric, HELP left out: what a golden file holds."""
        headers = {family.metric.name: text_header(family.metric).split("\n")[1] for family in self._families()}
        texts: dict[str, str] = {}
        for family in self._families():
            texts[family.metric.name] = texts.get(family.metric.name, "") + family.text
        return "".join(f"{headers[name]}\n{texts[name]}" for name in sorted(texts))

    def assert_declared(self) -> None:
        """Assert that the exporter declares every metric that was collected, with its type and labels."""
        exact = {it.name: (it.type, it.labels) for it in self._exporter.metrics if isinstance(it, Metric)}
        patterns = [it for it in self._exporter.metrics if not isinstance(it, Metric)]
        for family in self._families():
            metric = family.metric
            declared = [exact[metric.name]] if metric.name in exact else []
            declared += [(it.type, it.labels) for it in patterns if it.matches(metric.name)]
            assert (metric.type, metric.labels) in declared, f"{self._exporter.name} does not declare {metric!r}"

    def _families(self) -> list[Family]:
        return [family for snapshot in self.snapshots.values() for family in snapshot.families]


class Opened:
    """An opened target. `events` holds what its exporter logged, each record as a dict."""

    def __init__(
        self, exporter: Exporter[Any], settings: Mapping[str, Any], thresholds: Mapping[str, float], name: str
    ) -> None:
        self.exporter = exporter
        self.settings = exporter.settings.model_validate(dict(settings))
        self.events: list[dict[str, Any]] = []
        self._handler = _Recorder(self.events)
        self._logger = logging.getLogger(f"deckwatch.{exporter.name}")
        self._logger.addHandler(self._handler)
        self._level, self._logger.level = self._logger.level, logging.INFO
        self._target = open_target(exporter, TargetConfig(exporter.name, name, self.settings), thresholds)
        self._encoders = {named: Encoder() for named in self._target.collectors}
        self._budget = SeriesBudget(exporter.max_series)

    @property
    def collectors(self) -> dict[str, NamedCollector]:
        """The collectors by name, as in `postgres.statements`."""
        return {named.name: named for named in self._target.collectors}

    def collect(self, *names: str) -> Collected:
        """Run these collectors, or all of them, in the agent's order.

        As in the agent, those that follow one that cannot reach the target are not run.
        """
        snapshots = {}
        for collectors in self._target.groups().values():
            for named in collectors:
                if names and named.name not in names:
                    continue
                snapshot = snapshots[named.name] = run_once(named, self._encoders[named], self._budget)
                if snapshot.is_unreachable:
                    break
        return Collected(self.exporter, snapshots)

    def close(self) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.level = self._level
        self._target.close()


@contextlib.contextmanager
def opened(
    exporter: Exporter[Any],
    settings: Mapping[str, Any] | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
    name: str = "test",
) -> Iterator[Opened]:
    """Open a target of the exporter from settings as the config file has them. Raises pydantic's ValidationError."""
    target = Opened(exporter, settings or {}, THRESHOLDS if thresholds is None else thresholds, name)
    try:
        yield target
    finally:
        target.close()


def assert_golden(found: str, file: Path) -> None:
    """Assert that the file holds this text. With UPDATE_GOLDEN=1 in the environment, write it instead."""
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found)
    assert found == file.read_text()


class _Recorder(logging.Handler):
    def __init__(self, records: list[dict[str, Any]]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append({**vars(record), "message": record.getMessage()})
