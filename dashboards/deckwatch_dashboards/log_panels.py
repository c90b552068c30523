"""Panels that query Loki."""

from __future__ import annotations

from grafana_foundation_sdk.builders import logs as log_panel
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models

from . import palette
from .panels import COUNT, Panel, Setting, bar_graph, color, merge_columns, name_colors, panel_table
from .query import LOKI, log_instant_query, log_query, log_range_query

NO_LOGS = "No such lines in this time range. Check that logs are sent to Loki: see the Logs dashboard."

# Grafana escapes the values of variables twice, so they belong into double quotes, where LogQL undoes one escape. A
# stream without the label `instance` matches every choice; that of the agent's own log is the name of its host, if the
# config does not say otherwise. With service discovery, `$instance` is the target's name.
CHOSEN_INSTANCE = 'instance=~"$instance|$host|"'
_CHOSEN_TARGET = f' | target=~"$target" | {CHOSEN_INSTANCE} or target=~"$instance"'


def events_of(name: str) -> str:
    """The agent's events of this name, such as `postgres.blocked`, on the chosen instances and targets."""
    return f'{{job="deckwatch"}} |= `{name}` | json | event=`{name}`{_CHOSEN_TARGET}'


def log_bar_graph(title: str, description: str, legend: str, query: str, *, width: int = 12, height: int = 8) -> Panel:
    """Numbers of log lines over time."""
    panel = bar_graph(title, description, COUNT, width, height, NO_LOGS).datasource(LOKI)
    panel = panel.with_target(log_range_query(query, legend).ref_id("A"))
    return name_colors(panel.override_by_query("A", [color(palette.SKY, shades=True)]))


def log_table(
    title: str,
    description: str,
    query: str,
    *,
    heading: str,
    unit: str = COUNT,
    time_range: str = "",
    width: int = 12,
    height: int = 9,
) -> Panel:
    """A table of an instant query: a column for each label, and the value under `heading`.

    `time_range` replaces the dashboard's, for lines that are rare.
    """
    panel = panel_table(title, description, width, height, NO_LOGS).datasource(LOKI)
    panel = panel.with_target(log_instant_query(query).ref_id("A"))
    panel = panel.override_by_regexp("/^Value( #A)?$/", [Setting("displayName", heading), Setting("unit", unit)])
    panel = panel.override_by_name("query", [Setting("custom.minWidth", 400), Setting("custom.inspect", True)])
    if time_range:
        panel = panel.time_from(time_range)
    panel = panel.with_transformation(
        models.DataTransformerConfig(id_val="labelsToFields", options={"mode": "columns"})
    )
    return merge_columns(panel, ["Time"])


def log_lines(title: str, description: str, query: str, *, width: int = 24, height: int = 9) -> Panel:
    """Log lines, newest first."""
    panel = log_panel.Panel().title(title).description(description).datasource(LOKI).span(width).height(height)
    panel = panel.no_value(NO_LOGS).show_time(True).wrap_log_message(True).enable_log_details(True)
    panel = panel.sort_order(options.LogsSortOrder.DESCENDING)
    return panel.with_target(log_query(query).ref_id("A"))
