"""The config of sql_exporter (github.com/free/sql_exporter, and burningalchemist's fork), and its collector files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .business import can_quote, column, every, literal, metric, plain, selected, source
from .conversion import Conversion, LinedMap, NotConvertible, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator


def convert(text: str) -> Conversion:
    """A target for each target of the file. Raises NotConvertible."""
    found = Conversion()
    document = read_yaml(text)
    if "collector_name" in document:
        collectors = {document.text("collector_name"): document}
    else:
        collectors = {it.text("collector_name"): it for it in document.maps("collectors")}
    if document.get("collector_files"):
        found.lost(document.line_of("collector_files"), "collector_files. Convert each of these files too.")
    interval = document.map("global").text("min_interval")
    targets: list[dict[str, Any]] = []
    for name, line, url, wanted in _targets(found, document, collectors):
        keys = source(found, line, name, url)
        chosen = [it for key, it in collectors.items() if any(_matches(pattern, key) for pattern in wanted)]
        seen: set[str] = set()
        queries = [query for it in chosen for query in _queries(found, seen, it, interval, can_quote(keys))]
        if name in {it["name"] for it in targets}:
            found.lost(line, f"a second target called {name}. Rename it.")
        elif queries:
            targets.append({"name": re.sub(r"\s", "_", name), **keys, "queries": queries})
    if not targets:
        raise NotConvertible("no query in it can be converted. Is it the config of sql_exporter?")
    found.notes = list(dict.fromkeys(found.notes))  # a collector of several targets has the same notes for each
    found.config = {"exporters": {"business": targets}}
    return found


def _targets(
    found: Conversion, document: LinedMap, collectors: dict[str, LinedMap]
) -> Iterator[tuple[str, int, str, list[str]]]:
    """Name, line, URL and collectors of each target."""
    target = document.map("target")
    if target:
        line = target.line_of("data_source_name")
        yield target.text("name") or "sql", line, target.text("data_source_name"), target.texts("collectors")
    for job in document.maps("jobs"):
        for static in job.maps("static_configs"):
            if static.get("labels"):
                found.lost(static.line_of("labels"), f"labels of the targets of job {job.text('job_name')}")
            addresses = static.map("targets")
            for name in addresses:
                yield name, addresses.line_of(name), addresses.text(name), job.texts("collectors")
    if "collector_name" in document:
        yield "sql", 0, "env:DATABASE_URL", list(collectors)


def _matches(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern of collectors, in which * stands for any text."""
    first, *others = pattern.split("*")
    if not others:
        return pattern == name
    if not name.startswith(first) or len(name) < len(pattern) - len(others):
        return False
    position = len(first)
    for part in others[:-1]:
        position = name.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return name[position:].endswith(others[-1])


def _queries(
    found: Conversion, seen: set[str], collector: LinedMap, interval: str, quote: bool
) -> Iterator[dict[str, Any]]:
    """The queries of a collector; metrics that take the rows of one query as they are share it."""
    references = {it.text("query_name"): it.text("query") for it in collector.maps("queries")}
    scheduled = every(found, collector.line_of("min_interval"), collector.text("min_interval") or interval)
    shared: dict[str, list[dict[str, Any]]] = {}
    for settings in collector.maps("metrics"):
        name = settings.text("metric_name")
        query = settings.text("query") or references.get(settings.text("query_ref"), "")
        if not query:
            found.lost(settings.line, f"{name}: it has no query")
            continue
        if settings.get("timestamp_value"):
            found.lost(settings.line_of("timestamp_value"), f"{name}: timestamp_value; its values have no timestamp")
        keys, values = settings.texts("key_labels"), settings.texts("values")
        static, value_label = settings.map("static_labels"), settings.text("value_label")
        labels = [*keys, *static, *([value_label] if value_label else [])]
        is_plain = not static and not value_label and len(values) == 1
        value = values[0] if is_plain else "value"
        line, kind = settings.line_of("metric_name"), settings.text("type").lower()
        made = metric(found, seen, line, name, kind, settings.text("help"), labels, value)
        if made is None:
            continue
        if is_plain:
            shared.setdefault(plain(query), []).append(made)
            continue
        if not values and type(settings.get("static_value")) not in (int, float):
            found.lost(line, f"{name}: it has no values")
            continue
        if "value" in labels:
            found.lost(line, f"{name}: a label called value. Rename it.")
            continue
        fixed = {column_name: f"figures.{column(column_name, quote)}" for column_name in keys}
        fixed |= {label: literal(str(text)) for label, text in static.items()}
        parts = []
        for source_column in values or [""]:
            columns = dict(fixed)
            if value_label:
                columns[value_label] = literal(source_column)
            columns["value"] = (
                f"figures.{column(source_column, quote)}" if source_column else settings.text("static_value")
            )
            parts.append(selected(query, columns, quote))
        yield {"query": "\nUNION ALL\n".join(parts), **scheduled, "metrics": [made]}
    for query, metrics in shared.items():
        yield {"query": query, **scheduled, "metrics": metrics}
