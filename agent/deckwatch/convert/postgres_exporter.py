"""postgres_exporter's `queries.yaml` (its flag --extend.query-path)."""

from __future__ import annotations

from typing import Any

from .business import column, every, literal, metric, plain, selected
from .conversion import Conversion, LinedMap, NotConvertible, read_yaml


def convert(text: str) -> Conversion:
    """One target with the query of each namespace. Raises NotConvertible."""
    found = Conversion()
    document = read_yaml(text)
    queries = []
    seen: set[str] = set()
    for namespace, entry in document.items():
        if not isinstance(entry, LinedMap) or not entry.text("query") or not entry.get("metrics"):
            raise NotConvertible(f"{namespace} has no query and metrics", document.line_of(namespace))
        query = _query(found, seen, namespace, entry)
        if query is not None:
            queries.append(query)
    if not queries:
        raise NotConvertible("no query in it can be converted")
    target = {"name": "postgres", "dsn": "${DATA_SOURCE_NAME}", "queries": queries}
    found.changed(0, "set $DATA_SOURCE_NAME to the DSN of the server, as for postgres_exporter")
    found.changed(0, "the series have the label target, not server")
    found.config = {"exporters": {"business": [target]}}
    return found


def _query(found: Conversion, seen: set[str], namespace: str, entry: LinedMap) -> dict[str, Any] | None:
    for key, why in {
        "runonserver": "the query runs on every version of the server",
        "master": "the query runs on the server of the DSN",
    }.items():
        if entry.get(key):
            found.lost(entry.line_of(key), f"{namespace}: {key}; {why}")
    columns = {name: options for it in entry.maps("metrics") for name, options in it.items()}
    lines = {name: it.line_of(name) for it in entry.maps("metrics") for name in it}
    usages = {name: _usage(options, name, lines[name]) for name, options in columns.items()}
    labels = [name for name, usage in usages.items() if usage == "LABEL"]
    chosen = {name: f"figures.{column(name)}" for name in labels}
    metrics = []
    for name, usage in usages.items():
        line, options = lines[name], columns[name]
        if usage in ("LABEL", "DISCARD"):
            continue
        if usage not in ("GAUGE", "COUNTER", "MAPPEDMETRIC"):
            found.lost(line, f"{namespace}_{name}: usage {usage}")
            continue
        kind = "counter" if usage == "COUNTER" else "gauge"
        made = metric(found, seen, line, f"{namespace}_{name}", kind, options.text("description"), labels, name)
        if made is None:
            continue
        metrics.append(made)
        chosen[name] = f"figures.{column(name)}"
        if usage == "MAPPEDMETRIC":
            mapping = options.map("metric_mapping")
            if not mapping or any(type(value) not in (int, float) for value in mapping.values()):
                raise NotConvertible(f"the column {name} has no metric_mapping to numbers", line)
            cases = " ".join(f"WHEN {literal(key)} THEN {value!r}" for key, value in mapping.items())
            chosen[name] = f"CASE CAST(figures.{column(name)} AS text) {cases} END"
    if not metrics:
        found.lost(entry.line, f"{namespace}: none of its columns is a metric")
        return None
    is_whole = len(chosen) == len(columns) and "MAPPEDMETRIC" not in usages.values()
    query = entry.text("query")
    scheduled = every(found, entry.line_of("cache_seconds"), entry.text("cache_seconds"))
    return {"query": plain(query) if is_whole else selected(query, chosen), **scheduled, "metrics": metrics}


def _usage(options: object, name: str, line: int) -> str:
    if not isinstance(options, LinedMap) or not options.text("usage"):
        raise NotConvertible(f"the column {name} has no usage", line)
    return options.text("usage").upper()
