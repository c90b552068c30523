"""The shapes of panels. Each has a title, a description (what it shows, and what to do), a unit, and its queries.

Queries are `{legend: PromQL}`; see `query` for their short forms. Sizes are in Grafana's grid: 24 wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import logs as log_panel
from grafana_foundation_sdk.builders import text as text_panel
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.text import TextMode

from . import palette
from .query import LOKI, PROMETHEUS, log, log_now, log_over_time, now, over_time

RATIO, BYTES, BYTES_PER_SECOND, SECONDS = "percentunit", "bytes", "Bps", "s"
COUNT, PER_SECOND, OPERATIONS, TIME = "short", "cps", "ops", "dateTimeFromNow"

NO_DATA = "No data: is this part of the agent switched on and scraped? The Deckwatch dashboard tells."
NO_LOGS = "No such lines in this time. Are logs sent to Loki? The Logs dashboard tells."

Queries = Mapping[str, str]
Panel = Builder[models.Panel]
Row = dashboard.Row
Setting = models.DynamicConfigValue


# -- over time ---------------------------------------------------------------------------------------------------------


def lines(
    title: str,
    about: str,
    unit: str,
    queries: Queries,
    *,
    threshold: str = "",
    limit: Queries | None = None,
    stacked: bool = False,
    lowest: float | None = 0,
    highest: float | None = None,
    width: int = 8,
    height: int = 8,
    none: str = NO_DATA,
) -> Panel:
    """Lines over time. `threshold` is a metric of the config's thresholds, drawn dashed, as is each `limit`."""
    panel = _drawn(timeseries.Panel(), title, about, unit, width, height, none, stacked)
    if lowest is not None:
        panel = panel.min(lowest)
    if highest is not None:
        panel = panel.max(highest)
    marks = dict(limit or {})
    if threshold:
        marks["threshold"] = f"max(deckwatch_threshold_{threshold}{{@host}})"
    for number, (legend, expression) in enumerate({**queries, **marks}.items()):
        ref = chr(ord("A") + number)
        panel = panel.with_target(over_time(expression, legend).ref_id(ref))
        if legend in marks:
            panel = panel.override_by_query(ref, _DASHED)
        else:
            panel = panel.override_by_query(ref, [_color(palette.QUERIES[number], shades="{{" in legend)])
    known = any(legend == f"{{{{{label}}}}}" for legend in queries for label in ("mode", "level"))
    return _named_colors(panel) if known else panel


def rates(
    title: str,
    about: str,
    unit: str,
    counters: Queries,
    *,
    by: str = "instance, target",
    per: str = "",
    **more: Any,
) -> Panel:
    """How fast counters rise, summed `by` these labels; the legend has those of them that `per` shows."""
    shown = per or " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return lines(
        title,
        about,
        unit,
        {
            f"{shown} {legend}".strip(): f"sum by ({by}) (rate({counter}[@rate]))"
            for legend, counter in counters.items()
        },
        **more,
    )


def ratio(title: str, about: str, queries: Queries, *, threshold: str = "", **more: Any) -> Panel:
    """Parts of a whole, from 0 to 100 %, against the config's threshold where it has one."""
    return lines(title, about, RATIO, queries, threshold=threshold, highest=1, **more)


def log_volume(title: str, about: str, legend: str, query: str, *, width: int = 12, height: int = 8) -> Panel:
    """Lines by what they have in common, counted by Loki."""
    panel = _drawn(timeseries.Panel(), title, about, COUNT, width, height, NO_LOGS, stacked=True)
    panel = panel.datasource(LOKI).draw_style(options.GraphDrawStyle.BARS)
    panel = panel.with_target(log_over_time(query, legend).ref_id("A"))
    return _named_colors(panel.override_by_query("A", [_color(palette.SKY, shades=True)]))


def up_over_time(title: str, about: str, queries: Queries, *, width: int = 12, height: int = 8) -> Panel:
    """Since when something has been up or down: 1 and 0."""
    panel = statetimeline.Panel().title(title).description(about).datasource(PROMETHEUS).span(width).height(height)
    panel = panel.unit(COUNT).no_value(NO_DATA).mappings([_UP_OR_DOWN]).merge_values(True).row_height(0.8)
    panel = panel.show_value(options.VisibilityMode.NEVER).color_scheme(_by_threshold())
    panel = panel.thresholds(_steps([(None, palette.BAD), (1, palette.GOOD)]))
    for ref, (legend, expression) in zip("ABCDEF", queries.items(), strict=False):
        panel = panel.with_target(over_time(expression, legend).ref_id(ref))
    return panel


# -- now ---------------------------------------------------------------------------------------------------------------


def up(title: str, about: str, queries: Queries, *, to: str = "", width: int = 4, height: int = 4) -> Panel:
    """UP or DOWN, in words: 1 and 0."""
    panel = _figure(title, about, COUNT, queries, width, height, NO_DATA, to).mappings([_UP_OR_DOWN])
    return panel.thresholds(_steps([(None, palette.BAD), (1, palette.GOOD)]))


def trouble(
    title: str,
    about: str,
    query: str,
    *,
    unit: str = COUNT,
    bad_from: float = 1,
    to: str = "",
    width: int = 4,
    height: int = 4,
    none: str = NO_DATA,
) -> Panel:
    """A figure that ought to be small: coloured from `bad_from` on."""
    panel = _figure(title, about, unit, {"": query}, width, height, none, to)
    return panel.thresholds(_steps([(None, palette.GOOD), (bad_from, palette.BAD)]))


def figure(
    title: str, about: str, unit: str, queries: Queries, *, to: str = "", width: int = 4, height: int = 4
) -> Panel:
    """A figure to know, neither good nor bad."""
    panel = _figure(title, about, unit, queries, width, height, NO_DATA, to)
    return panel.thresholds(_steps([(None, palette.SKY)]))


def named(title: str, about: str, label: str, query: str, *, width: int = 4, height: int = 4) -> Panel:
    """The label of an `_info` metric, such as a version."""
    panel = figure(title, about, COUNT, {f"{{{{{label}}}}}": query}, width=width, height=height)
    assert isinstance(panel, stat.Panel)
    return panel.text_mode(options.BigValueTextMode.NAME).graph_mode(options.BigValueGraphMode.NONE)


def top(
    title: str,
    about: str,
    unit: str,
    legend: str,
    query: str,
    *,
    most: int = 8,
    highest: float | None = None,
    width: int = 8,
    height: int = 8,
    none: str = NO_DATA,
) -> Panel:
    """The most of something, now, as bars; full at `highest`, or else at the first one's."""
    panel = bargauge.Panel().title(title).description(about).datasource(PROMETHEUS).span(width).height(height)
    panel = panel.unit(unit).no_value(none).min(0).orientation(options.VizOrientation.HORIZONTAL)
    panel = panel.display_mode(options.BarGaugeDisplayMode.BASIC).value_mode(options.BarGaugeValueMode.TEXT)
    panel = panel.thresholds(_steps([(None, palette.SKY)])).color_scheme(_by_threshold())
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if highest is not None:
        panel = panel.max(highest)
    return panel.with_target(now(f"topk({most}, {query})", legend).ref_id("A"))


def grid(
    title: str,
    about: str,
    columns: Mapping[str, tuple[str, str]],
    *,
    hide: Sequence[str] = (),
    width: int = 12,
    height: int = 8,
    none: str = NO_DATA,
) -> Panel:
    """A table: a row for each set of labels, a column for each query, `{heading: (unit, PromQL)}`."""
    panel = _table(title, about, width, height, none).datasource(PROMETHEUS)
    for heading, (unit, expression) in columns.items():
        ref = heading.replace(" ", "_")
        panel = panel.with_target(now(expression, table=True).ref_id(ref))
        field = f"Value #{ref}" if len(columns) > 1 else "Value"
        settings = [Setting("displayName", heading), Setting("unit", unit)]
        if heading.startswith("up"):
            settings.append(Setting("mappings", [_UP_OR_DOWN]))
        panel = panel.override_by_name(field, settings)
    return _merged(panel, hide)


# -- from the logs -----------------------------------------------------------------------------------------------------


def events_table(
    title: str,
    about: str,
    query: str,
    *,
    heading: str,
    unit: str = COUNT,
    since: str = "",
    width: int = 12,
    height: int = 9,
) -> Panel:
    """Events counted or measured by Loki: a column for each label of the query; `since` is for rare ones."""
    panel = _table(title, about, width, height, NO_LOGS).datasource(LOKI)
    panel = panel.with_target(log_now(query).ref_id("A"))
    panel = panel.override_by_regexp("/^Value( #A)?$/", [Setting("displayName", heading), Setting("unit", unit)])
    panel = panel.override_by_name("query", [Setting("custom.minWidth", 400), Setting("custom.inspect", True)])
    if since:
        panel = panel.time_from(since)
    panel = panel.with_transformation(
        models.DataTransformerConfig(id_val="labelsToFields", options={"mode": "columns"})
    )
    return _merged(panel)


def events(title: str, about: str, query: str, *, width: int = 24, height: int = 9) -> Panel:
    """Lines as they are, the newest first."""
    panel = log_panel.Panel().title(title).description(about).datasource(LOKI).span(width).height(height)
    panel = panel.no_value(NO_LOGS).show_time(True).wrap_log_message(True).enable_log_details(True)
    panel = panel.sort_order(options.LogsSortOrder.DESCENDING)
    return panel.with_target(log(query).ref_id("A"))


def text(title: str, about: str, content: str, *, width: int = 24, height: int = 3) -> Panel:
    panel = text_panel.Panel().title(title).description(about).content(content)
    return panel.mode(TextMode.MARKDOWN).span(width).height(height)


def row(title: str) -> Row:
    return dashboard.Row(title)


# -- what they share ---------------------------------------------------------------------------------------------------

_DASHED = [
    Setting("color", {"mode": "fixed", "fixedColor": palette.LIMIT}),
    Setting("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
    Setting("custom.fillOpacity", 0),
    Setting("custom.stacking", {"mode": "none"}),
    Setting("custom.lineWidth", 2),
]

_UP_OR_DOWN = models.ValueMap(
    options={
        "0": models.ValueMappingResult(text="DOWN", color=palette.BAD, index=0),
        "1": models.ValueMappingResult(text="up", color=palette.GOOD, index=1),
    }
)


def _drawn(
    panel: timeseries.Panel, title: str, about: str, unit: str, width: int, height: int, none: str, stacked: bool
) -> timeseries.Panel:
    panel = panel.title(title).description(about).datasource(PROMETHEUS).span(width).height(height).unit(unit)
    panel = panel.no_value(none).line_width(1).fill_opacity(60 if stacked else 8)
    panel = panel.show_points(options.VisibilityMode.NEVER).tooltip(
        common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
    )
    legend = common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.BOTTOM)
    panel = panel.legend(legend.display_mode(options.LegendDisplayMode.LIST).calcs([]))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    return panel


def _figure(
    title: str, about: str, unit: str, queries: Queries, width: int, height: int, none: str, to: str
) -> stat.Panel:
    panel = stat.Panel().title(title).description(about).datasource(PROMETHEUS).span(width).height(height).unit(unit)
    panel = panel.no_value(none).graph_mode(options.BigValueGraphMode.NONE).color_scheme(_by_threshold())
    panel = panel.text_mode(options.BigValueTextMode.AUTO).color_mode(options.BigValueColorMode.VALUE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    for ref, (legend, expression) in zip("ABCDEF", queries.items(), strict=False):
        panel = panel.with_target(now(expression, legend).ref_id(ref))
    if unit == RATIO:
        panel = panel.decimals(1)
    if to:
        link = dashboard.DashboardLink(f"Open the dashboard {to}").type(models.DashboardLinkType.LINK)
        panel = panel.links([link.url(f"/d/deckwatch-{to}?${{__url_time_range}}&${{__all_variables}}")])
    return panel


def _table(title: str, about: str, width: int, height: int, none: str) -> table.Panel:
    panel = table.Panel().title(title).description(about).span(width).height(height).unit(COUNT).no_value(none)
    return panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color("text"))


def _merged(panel: table.Panel, hide: Sequence[str] = ()) -> table.Panel:
    """One table of all queries, without the columns that say nothing."""
    panel = panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    hidden = dict.fromkeys(("Time", *hide), True)
    return panel.with_transformation(models.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden}))


def _color(color: str, shades: bool) -> Setting:
    return Setting("color", {"mode": "shades" if shades else "fixed", "fixedColor": color})


def _named_colors(panel: timeseries.Panel) -> timeseries.Panel:
    """What is known by its name (a log level, a mode of the CPU) has the same colour everywhere."""
    for name, color in palette.BY_NAME.items():
        panel = panel.override_by_name(name, [_color(color, shades=False)])
    return panel


def _steps(steps: Sequence[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    found = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def _by_threshold() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)
