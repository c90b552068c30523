"""The config of query-exporter (github.com/albertodonato/query-exporter)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .business import can_quote, column, every, literal, metric, selected, source
from .conversion import Conversion, LinedMap, NotConvertible, read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping


def convert(text: str) -> Conversion:
    """One target for each database. Raises NotConvertible."""
    found = Conversion()
    document = read_yaml(text)
    databases, metrics, queries = (document.map(key) for key in ("databases", "metrics", "queries"))
    if not databases or not queries:
        raise NotConvertible("it has no databases and queries. Is it the config of query-exporter?")
    usable = {name for name in metrics if _is_usable(found, name, metrics.map(name))}
    targets = []
    for name in databases:
        database = databases.map(name)
        line = database.line_of("dsn")
        if not isinstance(database.get("dsn"), str):
            found.lost(line, f"database {name}: its dsn is not text. Write it as a URL.")
            continue
        if database["dsn"].rstrip("/") == "sqlite:":
            found.lost(line, f"database {name}: an SQLite database in memory is empty")
            continue
        if database.get("connect-sql"):
            found.lost(database.line_of("connect-sql"), f"database {name}: connect-sql")
        keys = source(found, line, name, database["dsn"])
        static = {"database": name, **{key: str(value) for key, value in database.map("labels").items()}}
        seen: set[str] = set()
        made = [
            query
            for query_name in queries
            if name in queries.map(query_name).texts("databases")
            if (
                query := _query(
                    found, query_name, queries.map(query_name), metrics, usable, static, seen, can_quote(keys)
                )
            )
        ]
        if made:
            targets.append({"name": re.sub(r"\s", "_", name), **keys, "queries": made})
    if not targets:
        raise NotConvertible("no query in it can be converted")
    found.notes = list(dict.fromkeys(found.notes))  # a query of several databases has the same notes for each
    found.config = {"exporters": {"business": targets}}
    return found


def _is_usable(found: Conversion, name: str, settings: LinedMap) -> bool:
    kind, line = settings.text("type"), settings.line_of("type")
    if kind == "counter" and settings.get("increment") is not False:
        found.lost(line, f"{name}: a counter that adds up the results of its query. Query the total instead.")
    elif kind == "histogram":
        found.lost(line, f"{name}: a histogram over all runs of its query. Query the values of all rows instead.")
    elif kind not in ("gauge", "counter"):
        found.lost(line, f"{name}: type {kind}")
    else:
        return True
    return False


def _query(
    found: Conversion,
    name: str,
    settings: LinedMap,
    metrics: LinedMap,
    usable: set[str],
    static: Mapping[str, str],
    seen: set[str],
    quote: bool,
) -> dict[str, Any] | None:
    if settings.get("parameters"):
        found.lost(settings.line_of("parameters"), f"query {name}: parameters. Write a query for each set of them.")
        return None
    if settings.get("timeout") is not None:
        found.lost(settings.line_of("timeout"), f"query {name}: timeout. Set it for the target.")
    columns: dict[str, str] = {}
    made = []
    for wanted in settings.texts("metrics"):
        if wanted not in usable:
            continue
        declared = metrics.map(wanted)
        labels = declared.texts("labels")
        kind = declared.text("type")
        exposed = wanted if kind == "gauge" or wanted.endswith("_total") else f"{wanted}_total"
        help_text = declared.text("description")
        one = metric(found, seen, metrics.line_of(wanted), exposed, kind, help_text, [*static, *labels], wanted)
        if one is not None:
            made.append(one)
            columns |= {it: f"figures.{column(it, quote)}" for it in (*labels, wanted)}
    if not made:
        found.lost(settings.line, f"query {name}: none of its metrics can be converted")
        return None
    columns |= {label: literal(value) for label, value in static.items()}
    scheduled = {}
    if settings.text("schedule"):
        scheduled["cron"] = settings.text("schedule")
        found.changed(settings.line_of("schedule"), f"query {name}: its schedule is in UTC. Set timezone for another.")
    else:
        scheduled = every(found, settings.line_of("interval"), settings.text("interval"))
    return {"query": selected(settings.text("sql"), columns, quote), **scheduled, "metrics": made}
