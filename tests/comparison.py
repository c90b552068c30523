"""Compares the agent with a peer: missing series and different types, labels or values."""

from __future__ import annotations

import json
import math
import re
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from peers.refresh import PeerMetric, name_of
from services import Program, fetch, prometheus, until

Labels: TypeAlias = "tuple[tuple[str, str], ...]"
#: By metric name: the type, and the value of each series by sample name and labels.
Exposed: TypeAlias = "dict[str, tuple[str, dict[tuple[str, Labels], float]]]"


@dataclass(frozen=True)
class Tolerance:
    relative: float = 1e-9
    absolute: float = 1e-9


def exposed(exposition: str) -> Exposed:
    declared = dict(re.findall(r"^# TYPE (\S+) (\S+)", exposition, re.MULTILINE))
    found: Exposed = {}
    for family in text_string_to_metric_families(exposition):
        name = name_of(family, declared)
        kind = declared.get(name, family.type)
        series = found.setdefault(name, (kind, {}))[1]
        for sample in family.samples:
            series[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def as_release(ours: Exposed, peer: Exposed, main: Iterable[PeerMetric]) -> Exposed:
    """Adjust our metrics for labels and types that changed between the peer's release `peer` and its main branch."""
    rows: dict[str, list[PeerMetric]] = {}
    for row in main:
        rows.setdefault(row.name, []).append(row)
    return {
        name: _as_release(metric, peer[name], rows[name]) if name in rows and name in peer else metric
        for name, metric in ours.items()
    }


def _as_release(
    metric: tuple[str, dict[tuple[str, Labels], float]],
    peer: tuple[str, dict[tuple[str, Labels], float]],
    rows: list[PeerMetric],
) -> tuple[str, dict[tuple[str, Labels], float]]:
    kind, series = metric
    known = {label for _, labels in peer[1] for label, _ in labels}
    newer = {label for row in rows for label in row.labels.split(",")} - known
    return (peer[0] if kind == rows[0].type else kind), {
        (sample, tuple(it for it in labels if it[0] not in newer)): value for (sample, labels), value in series.items()
    }


def named(start: str | tuple[str, ...], left_out: tuple[str, ...] = ()) -> Callable[[str], bool]:
    """Return whether a metric name has one of the prefixes and none of the excluded ones."""
    return lambda name: name.startswith(start) and not name.startswith(left_out)


def collected_since(moment: float, read: Callable[[], Exposed]) -> Exposed:
    """Return the agent's exposition after every collector has run again."""

    def fresh() -> Exposed:
        families = read()
        ends = families["deckwatch_collector_last_success_timestamp_seconds"][1].values()
        return families if min(ends) > moment else {}

    return until(fresh, what="a run of every collector")


def differences(peer: Exposed, ours: Exposed, of_interest: Callable[[str], bool]) -> list[str]:
    """List the peer's metrics that are missing or differ in type or label names. Metrics with only NaN are ignored."""
    problems = []
    for name, (kind, series) in sorted(peer.items()):
        known = {labels for (_, labels), value in series.items() if not math.isnan(value)}
        if not of_interest(name) or not known:
            continue
        if name not in ours:
            problems.append(f"missing: {name} ({kind})")
            continue
        if ours[name][0] != kind:
            problems.append(f"type of {name}: {ours[name][0]}, not {kind}")
        wanted = {tuple(label for label, _ in labels) for labels in known}
        given = {tuple(label for label, _ in labels) for _, labels in ours[name][1]}
        if wanted != given:
            problems.append(f"labels of {name}: {sorted(given)}, not {sorted(wanted)}")
    return problems


def missing_series(peer: Exposed, ours: Exposed, of_interest: Callable[[str], bool]) -> list[str]:
    return [
        f"{sample}{dict(labels)}"
        for name, (_, series) in sorted(peer.items())
        if of_interest(name)
        for (sample, labels), value in series.items()
        if not math.isnan(value) and (sample, labels) not in ours.get(name, ("", {}))[1]
    ]


def different_values(
    before: Exposed,
    after: Exposed,
    ours: Exposed,
    of_interest: Callable[[str], bool],
    tolerances: Mapping[str, Tolerance],
) -> tuple[int, dict[tuple[str, Labels], str]]:
    """Count the series that did not change between two scrapes of the peer, and list those with other values here.

    `tolerances` by name prefix are for values that change and return between the scrapes.
    """
    compared, different = 0, dict[tuple[str, Labels], str]()
    for name, (_, series) in sorted(before.items()):
        if not of_interest(name):
            continue
        allowed = next((it for start, it in tolerances.items() if name.startswith(start)), Tolerance())
        for key, value in series.items():
            mine = ours.get(name, ("", {}))[1].get(key)
            if mine is None or math.isnan(value) or after.get(name, ("", {}))[1].get(key) != value:
                continue
            compared += 1
            if not math.isclose(mine, value, rel_tol=allowed.relative, abs_tol=allowed.absolute):
                different[key] = f"{key[0]}{dict(key[1])}: {mine}, not {value}"
    return compared, different


def selectors(file: str) -> list[str]:
    """Return the selectors of community dashboards from `integration/selectors`."""
    lines = (Path(__file__).parent / "integration" / "selectors" / file).read_text().splitlines()
    return [line for line in lines if line[:1] not in ("#", "")]


def filled_by_the_peer_alone(
    folder: Path, peer: Program, ours: Program, wanted: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Return the selectors that match the peer's data in a real Prometheus, and those of them without our data."""
    with prometheus(folder, {"peer": peer, "deckwatch": ours}) as server:
        until(lambda: all(_result(server, f'up{{job="{job}"}} == 1') for job in ("peer", "deckwatch")), what="scrapes")
        filled = [selector for selector in wanted if _result(server, _of_job(selector, "peer"))]
        missing = filled
        deadline = time.monotonic() + 60  # our first series of a state may appear one scrape later than the peer's
        while missing and time.monotonic() < deadline:
            missing = [selector for selector in filled if not _result(server, _of_job(selector, "deckwatch"))]
            time.sleep(0.2)
        targets = json.loads(fetch(server.url + "/api/v1/targets")[1])["data"]["activeTargets"]
    assert [target["lastError"] for target in targets] == ["", ""]
    return filled, missing


def _of_job(selector: str, job: str) -> str:
    name, brace, rest = selector.partition("{")
    return f'{name}{{job="{job}",{rest}' if brace else f'{name}{{job="{job}"}}'


def _result(server: Program, query: str) -> list[object]:
    status, body = fetch(f"{server.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    assert status == 200, body
    result: list[object] = json.loads(body)["data"]["result"]
    return result
