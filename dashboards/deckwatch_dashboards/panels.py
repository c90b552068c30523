"""Panels that query Prometheus. Each has a title, a description (what it shows, what to do when it is bad) and a unit.

Queries are `{legend: PromQL}`; see `query` for the abbreviations. Widths and heights are in units of Grafana's grid,
which is 24 wide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import stat as stat_panel
from grafana_foundation_sdk.builders import text as text_panel
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.text import TextMode

from . import palette
from .query import BY_TARGET, PROMETHEUS, highest, instant_query, lowest, range_query, table_query, threshold

RATIO, BYTES, BYTES_PER_SECOND, SECONDS = "percentunit", "bytes", "Bps", "s"
COUNT, PER_SECOND, OPERATIONS, TIME, YES_NO = "short", "cps", "ops", "dateTimeFromNow", "bool_yes_no"

NO_DATA = "No data. Check that this exporter is enabled and scraped: see the Deckwatch dashboard."

#: Series in a graph, shared by its queries: more cannot be told apart.
MAX_SERIES = 12
#: Rows in a list of the highest values.
MAX_BARS = 8

Queries = Mapping[str, str]
Panel = Builder[models.Panel]
Row = dashboard.Row
Setting = models.DynamicConfigValue


# -- values over time --------------------------------------------------------------------------------------------------


def graph(
    title: str,
    description: str,
    unit: str,
    queries: Queries,
    *,
    threshold_name: str = "",
    all_series: bool = False,
    show_lowest: bool = False,
    stacked: bool = False,
    minimum: float | None = 0,
    maximum: float | None = None,
    width: int = 8,
    height: int = 8,
    no_data: str = NO_DATA,
) -> Panel:
    """A line graph. Each query shows the series with the highest (or lowest) values, unless `all_series` is set.

    The threshold `deckwatch_threshold_<threshold_name>` is drawn as a dashed line.
    """
    panel = _time_series(timeseries.Panel(), title, description, unit, width, height, no_data, stacked)
    if minimum is not None:
        panel = panel.min(minimum)
    if maximum is not None:
        panel = panel.max(maximum)
    for number, (legend, query) in enumerate(queries.items()):
        ref = chr(ord("A") + number)
        several = "{{" in legend
        if several and not all_series:
            query = (lowest if show_lowest else highest)(query, max(3, MAX_SERIES // len(queries)))
        panel = panel.with_target(range_query(query, legend).ref_id(ref))
        panel = panel.override_by_query(ref, [color(palette.QUERIES[number], shades=several)])
    if threshold_name:
        panel = panel.with_target(range_query(threshold(threshold_name), "threshold").ref_id("Threshold"))
        panel = panel.override_by_query("Threshold", _DASHED)
    return name_colors(panel) if {"{{mode}}", "{{level}}"} & queries.keys() else panel


def rate_graph(
    title: str,
    description: str,
    unit: str,
    counters: Queries,
    *,
    by: str = BY_TARGET,
    **settings: Any,
) -> Panel:
    """The rates of counters per second, summed `by` these labels. The legend has all of them but the job."""
    names = [name for label in by.split(",") if (name := label.strip()) != "job"]
    if "target" not in names and "instance" in names:
        names.remove("agent")
    shown = " ".join(f"{{{{{name}}}}}" for name in names)
    queries = {
        f"{shown} {legend}".strip(): f"sum by ({by}) (rate({counter}[@rate]))" for legend, counter in counters.items()
    }
    return graph(title, description, unit, queries, **settings)


def ratio_graph(title: str, description: str, queries: Queries, **settings: Any) -> Panel:
    """A line graph from 0 to 100 %."""
    return graph(title, description, RATIO, queries, maximum=1, **settings)


def state_timeline(
    title: str,
    description: str,
    queries: Queries,
    *,
    width: int = 12,
    height: int = 8,
    no_data: str = NO_DATA,
) -> Panel:
    """Periods in which something was up (1) or down (0), for the series that were down in the time range."""
    panel = statetimeline.Panel().title(title).description(description).datasource(PROMETHEUS)
    panel = panel.span(width).height(height).unit(COUNT).no_value(no_data).mappings([_UP_OR_DOWN])
    panel = panel.merge_values(True).row_height(0.8)
    panel = panel.show_value(options.VisibilityMode.NEVER).color_scheme(_color_by_threshold())
    panel = panel.thresholds(_thresholds([(None, palette.BAD), (1, palette.GOOD)]))
    for ref, (legend, query) in zip("ABCDEF", queries.items(), strict=False):
        was_down = f"min_over_time(({query})[$__range:$__interval] @ end()) == 0"
        shown = f"({query}) and topk({max(2, MAX_SERIES // len(queries))}, {was_down})"
        panel = panel.with_target(range_query(shown, legend).ref_id(ref))
    return panel


# -- current values ----------------------------------------------------------------------------------------------------


def problem_stat(
    title: str,
    description: str,
    query: str,
    *,
    unit: str = COUNT,
    bad_from: float = 1,
    link_to: str = "",
    width: int = 4,
    height: int = 4,
    no_data: str = NO_DATA,
) -> Panel:
    """A single value that should be low. It is shown in red from `bad_from`."""
    panel = _stat(title, description, unit, {"": query}, width, height, no_data, link_to)
    return panel.thresholds(_thresholds([(None, palette.GOOD), (bad_from, palette.BAD)]))


def stat(
    title: str,
    description: str,
    unit: str,
    queries: Queries,
    *,
    width: int = 4,
    height: int = 4,
    no_data: str = NO_DATA,
) -> Panel:
    """Single values without a judgment. Each query must return one series."""
    panel = _stat(title, description, unit, queries, width, height, no_data, "")
    return panel.thresholds(_thresholds([(None, palette.SKY)]))


def top_list(
    title: str,
    description: str,
    unit: str,
    legend: str,
    query: str,
    *,
    maximum: float | None = None,
    width: int = 8,
    height: int = 8,
    no_data: str = NO_DATA,
) -> Panel:
    """The highest current values as bars. A full bar is `maximum`, or the highest value."""
    panel = bargauge.Panel().title(title).description(description).datasource(PROMETHEUS).span(width).height(height)
    panel = panel.unit(unit).no_value(no_data).min(0).orientation(options.VizOrientation.HORIZONTAL)
    panel = panel.display_mode(options.BarGaugeDisplayMode.BASIC).value_mode(options.BarGaugeValueMode.TEXT)
    panel = panel.thresholds(_thresholds([(None, palette.SKY)])).color_scheme(_color_by_threshold())
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if maximum is not None:
        panel = panel.max(maximum)
    return panel.with_target(instant_query(f"topk({MAX_BARS}, {query})", legend).ref_id("A"))


def value_table(
    title: str,
    description: str,
    by: str,
    columns: Mapping[str, tuple[str, str]],
    *,
    sort: str = "",
    descending: bool = True,
    width: int = 12,
    height: int = 8,
    no_data: str = NO_DATA,
) -> Panel:
    """A table: one row for each combination of the labels `by`, one column for each query, `{heading: (unit, PromQL)}`.

    Columns are joined on the labels `by`, so each query is aggregated to them. A unit of "" hides the value: the query
    adds the labels after "+" in its heading ("+version"). A heading "up" shows 1 and 0 as words.
    """
    panel = panel_table(title, description, width, height, no_data).datasource(PROMETHEUS)
    hidden = ["Time", "job"]
    for heading, (unit, query) in columns.items():
        ref = re.sub(r"\W+", "_", heading).strip("_")
        added = f", {heading.removeprefix('+')}" if heading.startswith("+") else ""
        panel = panel.with_target(table_query(f"max by ({by}{added}) ({query})").ref_id(ref))
        field = f"Value #{ref}" if len(columns) > 1 else "Value"
        if added:
            hidden.append(field)
            continue
        settings = [Setting("displayName", heading), Setting("unit", unit)]
        if heading == "up":
            settings += [Setting("mappings", [_UP_OR_DOWN]), Setting("custom.cellOptions", {"type": "color-text"})]
        panel = panel.override_by_name(field, settings)
    if sort:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
    return merge_columns(panel, hidden)


def text(title: str, description: str, content: str, *, width: int = 24, height: int = 3) -> Panel:
    """A panel of Markdown."""
    panel = text_panel.Panel().title(title).description(description).content(content)
    return panel.mode(TextMode.MARKDOWN).span(width).height(height)


def row(title: str) -> Row:
    return dashboard.Row(title)


# -- parts shared with the log panels ----------------------------------------------------------------------------------


def bar_graph(title: str, description: str, unit: str, width: int, height: int, no_data: str) -> timeseries.Panel:
    """A graph of stacked bars without queries."""
    panel = _time_series(timeseries.Panel(), title, description, unit, width, height, no_data, stacked=True)
    return panel.draw_style(options.GraphDrawStyle.BARS)


def panel_table(title: str, description: str, width: int, height: int, no_data: str) -> table.Panel:
    """A table without queries."""
    panel = table.Panel().title(title).description(description).span(width).height(height).unit(COUNT).no_value(no_data)
    # Otherwise, Grafana would show the panel's `no_data` text in each empty cell.
    panel = panel.override_by_regexp("/.*/", [Setting("noValue", "-")])
    return panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color("text"))


def merge_columns(panel: table.Panel, hidden: Sequence[str]) -> table.Panel:
    """Join the results of all queries into one table, without the `hidden` columns."""
    panel = panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    excluded = dict.fromkeys(hidden, True)
    return panel.with_transformation(
        models.DataTransformerConfig(id_val="organize", options={"excludeByName": excluded})
    )


def color(fixed: str, shades: bool) -> Setting:
    """One color, or shades of it for several series."""
    return Setting("color", {"mode": "shades" if shades else "fixed", "fixedColor": fixed})


def name_colors(panel: timeseries.Panel) -> timeseries.Panel:
    """Give log levels and CPU modes the same color in every panel."""
    for name, fixed in palette.BY_NAME.items():
        panel = panel.override_by_name(name, [color(fixed, shades=False)])
    return panel


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


def _time_series(
    panel: timeseries.Panel,
    title: str,
    description: str,
    unit: str,
    width: int,
    height: int,
    no_data: str,
    stacked: bool,
) -> timeseries.Panel:
    panel = panel.title(title).description(description).datasource(PROMETHEUS).span(width).height(height).unit(unit)
    panel = panel.no_value(no_data).line_width(1).fill_opacity(60 if stacked else 8)
    panel = panel.show_points(options.VisibilityMode.NEVER).tooltip(
        common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
    )
    legend = common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.BOTTOM)
    panel = panel.legend(legend.display_mode(options.LegendDisplayMode.LIST).calcs([]))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    return panel


def _stat(
    title: str,
    description: str,
    unit: str,
    queries: Queries,
    width: int,
    height: int,
    no_data: str,
    link_to: str,
) -> stat_panel.Panel:
    panel = stat_panel.Panel().title(title).description(description).datasource(PROMETHEUS)
    panel = panel.span(width).height(height).unit(unit).no_value(no_data)
    panel = panel.graph_mode(options.BigValueGraphMode.NONE).color_scheme(_color_by_threshold())
    panel = panel.text_mode(options.BigValueTextMode.AUTO).color_mode(options.BigValueColorMode.VALUE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    for ref, (legend, query) in zip("ABCDEF", queries.items(), strict=False):
        panel = panel.with_target(instant_query(query, legend).ref_id(ref))
    if unit == RATIO:
        panel = panel.decimals(1)
    if link_to:
        link = dashboard.DashboardLink(f"Open the dashboard {link_to}").type(models.DashboardLinkType.LINK)
        panel = panel.links([link.url(f"/d/deckwatch-{link_to}?${{__url_time_range}}&${{__all_variables}}")])
    return panel


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    found = [models.Threshold(value=value, color=fixed) for value, fixed in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def _color_by_threshold() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)
