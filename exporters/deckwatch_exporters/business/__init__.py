"""Figures of the business, read from its own databases on their own schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Exporter, Finding, KeyFigure, Target, Unreachable

from .collector import UP, BusinessCollector
from .rows import QueryFailed, check_columns
from .settings import BusinessSettings
from .sources import source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Context


def open_source(settings: BusinessSettings, context: Context) -> Target:
    source = source_of(settings)
    return Target({"business": BusinessCollector(settings, source, context)}, source.close)


def check_queries(settings: BusinessSettings) -> Iterator[Finding]:
    """Prepare each query. Nothing where the source cannot be reached: the collector says so."""
    source = source_of(settings)
    try:
        for query in settings.all_queries:
            names = ", ".join(metric.name for metric in query.metrics)
            try:
                check_columns(query, source.columns(query.query))
            except QueryFailed as failure:
                yield Finding("failed", f"{names}: {failure}")
            else:
                yield Finding("ok", names)
    except Unreachable:
        return
    finally:
        source.close()


EXPORTER = Exporter(
    name="business",
    settings=BusinessSettings,
    open=open_source,
    named=True,
    up=UP,
    key_figures=(
        KeyFigure("Failing queries", "deckwatch_business_queries_failing"),
        KeyFigure("Series", "deckwatch_business_query_series"),
        KeyFigure("Time for queries", "deckwatch_business_query_duration_seconds", unit="seconds"),
    ),
    runbook="BusinessQueryFailing",
    check=check_queries,
)
