"""An agent that monitors databases, with access to its series, events and collector states."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services import Program, agent, fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

import contextlib

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Series:
    name: str
    labels: Mapping[str, str]
    value: float


@dataclass
class Watch:
    """A running agent. The default target name is `main`."""

    program: Program
    folder: Path

    def series(self, name: str = "", **labels: str) -> list[Series]:
        """Return the series with this name (all if empty) and these labels."""
        found = []
        for line in self.program.metrics().splitlines():
            if line.startswith("#") or (name and not line.startswith(name)):
                continue
            series = _series(line)
            if (not name or series.name == name) and labels.items() <= series.labels.items():
                found.append(series)
        return found

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the only series with this name and these labels; None if there is none."""
        found = self.series(name, **labels)
        assert len(found) <= 1, found
        return found[0].value if found else None

    def sum(self, name: str, **labels: str) -> float:
        return sum(series.value for series in self.series(name, **labels))

    def of_target(self, target: str = "main") -> set[str]:
        """Return the names of the target's series, without the agent's collector metrics."""
        return {
            series.name
            for series in self.series(target=target)
            if not series.name.startswith(("deckwatch_", "pg_scrape_"))
        }

    def counters(self, prefix: str = "pg_", target: str = "main") -> dict[str, float]:
        """Return the values of all counters and histograms with a name prefix, by series."""
        text = self.program.metrics()
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        found = {}
        for line in text.splitlines():
            if line.startswith(prefix) and f'target="{target}"' in line:
                series, value = line.rsplit(" ", 1)
                name = series.partition("{")[0]
                family = re.sub(r"_(bucket|sum|count)$", "", name)
                if kinds.get(name) == "counter" or kinds.get(family) == "histogram":
                    found[series] = float(value)
        return found

    def is_up(self, target: str = "main") -> bool:
        return self.value("pg_up", target=target) == 1

    def is_down(self, target: str = "main") -> bool:
        return self.value("pg_up", target=target) == 0

    def failing(self, target: str = "main") -> set[str]:
        """Return the target's collectors that have not succeeded."""
        return {
            series.labels["collector"]
            for series in self.series("deckwatch_collector_success", target=target)
            if series.value == 0
        }

    def errors(self, target: str = "main") -> dict[str, str]:
        """Return the status API's entries by collector."""
        status = json.loads(fetch(self.program.url + "/api/v1/status")[1])
        return {it["name"]: it["error"] for it in status["collectors"] if it["target"] == target and it["error"]}

    def last_run(self, collector: str, target: str = "main") -> float | None:
        """Return when the last run of a collector ended (Unix seconds)."""
        status = json.loads(fetch(self.program.url + "/api/v1/status")[1])
        (ended,) = (it["last_run"] for it in status["collectors"] if (it["name"], it["target"]) == (collector, target))
        return float(ended) if ended else None

    def events(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """Return the events so far with this name and these fields."""
        lines = [line for line in self.program.printed.splitlines() if f'"{name}"' in line and line.endswith("}")]
        return [
            event
            for event in map(json.loads, lines)
            if event.get("event") == name and all(event.get(key) == value for key, value in fields.items())
        ]

    def cycles(self, count: int, target: str = "main") -> None:
        """Wait for this number of further runs of the target's server collector."""

        def scrapes() -> float:
            return self.value("pg_exporter_scrapes_total", target=target) or 0.0

        before = scrapes()
        until(lambda: scrapes() >= before + count, what=f"{count} more cycles")

    def reload(self, config: str) -> None:
        """Replace the agent's config file, reload it and wait until it is active."""
        stamp = "deckwatch_config_last_reload_success_timestamp_seconds"
        before = self.value(stamp)
        (self.folder / "deckwatch.yml").write_text(config)
        self.program.process.send_signal(signal.SIGHUP)
        until(lambda: self.value(stamp) != before, what="the reload")


def _series(line: str) -> Series:
    name, labels, value = re.fullmatch(r"([\w:]+)(?:\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
    found = {
        label: re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], text)
        for label, text in _LABEL.findall(labels or "")
    }
    return Series(name, found, float(value))


def config(*targets: Mapping[str, Any], interval: str = "1s", **more: Any) -> str:
    """Return a config for these PostgreSQL servers. It is JSON, which is valid YAML."""
    named = [{"name": "main", **target} for target in targets]
    return json.dumps({"interval": interval, **more, "exporters": {"system": {}, "postgres": named}})


@contextlib.contextmanager
def watching(folder: Path, config: str) -> Iterator[Watch]:
    with agent(folder, config) as program:
        yield Watch(program, folder)


def fallen(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the counters that decreased."""
    return {series: (value, after[series]) for series, value in before.items() if after.get(series, value) < value}
