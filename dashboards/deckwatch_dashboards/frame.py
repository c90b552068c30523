"""What surrounds the panels: datasources, variables, links to the other dashboards, annotations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from deckwatch import __version__

from . import palette
from .query import LOKI, PROMETHEUS, promql
from .shapes import Panel, Row

TAG = "deckwatch"
_ALL = models.VariableOption(selected=True, text=["All"], value=["$__all"])


@dataclass(frozen=True)
class Variable:
    """A choice of several of a label's values: `label_values(query)`. `.*` as `everything` has those without it."""

    name: str
    label: str
    query: str
    about: str
    everything: str = ".+"
    loki: bool = False

    def build(self) -> dashboard.QueryVariable:
        query = promql(f"label_values({self.query})")
        variable = dashboard.QueryVariable(self.name).label(self.label).description(self.about).query(query)
        variable = variable.definition(query).datasource(LOKI if self.loki else PROMETHEUS).multi(True)
        variable = variable.include_all(True).all_value(self.everything).current(_ALL)
        variable = variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        return variable.sort(models.VariableSort.ALPHABETICAL_ASC)


@dataclass(frozen=True)
class Dashboard:
    """`name` is the file's, and `deckwatch-<name>` the UID. `subject` is a metric that everything shown here has."""

    name: str
    title: str
    question: str  # which it answers
    subject: str
    panels: Sequence[Panel | Row]
    targets: str = "deckwatch_collector_success"  # the metric whose target label names the targets
    variables: Sequence[Variable] = ()
    search: str = ""  # a text box of this name
    tags: Sequence[str] = field(default=())

    @property
    def uid(self) -> str:
        return f"deckwatch-{self.name}"

    @property
    def file_name(self) -> str:
        return f"{self.name}.json"

    def json(self) -> str:
        text = json.dumps(self._built(), cls=JSONEncoder)
        plain = json.loads(text, object_hook=_in_sight)
        return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def _built(self) -> models.Dashboard:
        board = dashboard.Dashboard(f"Deckwatch / {self.title}").uid(self.uid).tags([TAG, *self.tags]).readonly()
        board = board.description(f"{self.question} Deckwatch {__version__}; made by code, so copy it to change it.")
        board = board.time("now-1h", "now").refresh("30s").timezone("browser")
        board = board.tooltip(models.DashboardCursorSync.CROSSHAIR).link(_links())
        for variable in self._variables():
            board = board.with_variable(variable)
        for annotation in (_alerts(), _reloads()):
            board = board.annotation(annotation)
        for panel in self.panels:
            board = board.with_row(panel) if isinstance(panel, Row) else board.with_panel(panel)
        built = board.build()
        for number, placed in enumerate(built.panels or [], 1):
            placed.id_val = number
        return built

    def _variables(
        self,
    ) -> list[dashboard.QueryVariable | dashboard.DatasourceVariable | dashboard.TextBoxVariable]:
        chosen = (
            Variable("job", "Job", f"{self.subject}, job", "The scrape job of Prometheus."),
            Variable("instance", "Instance", f'{self.subject}{{job=~"$job"}}, instance', "Which agents."),
            Variable("target", "Target", f"{self.targets}{{@host}}, target", "Which named targets.", everything=".*"),
            *self.variables,
        )
        box = dashboard.TextBoxVariable(self.search).label(self.search.capitalize()).default_value("")
        return [
            _datasource("prometheus", "Prometheus"),
            _datasource("loki", "Loki"),
            *(variable.build() for variable in chosen),
            *([box.description("A regular expression that lines have to match.")] if self.search else []),
        ]


def _in_sight(settings: dict[str, object]) -> dict[str, object]:
    """The SDK puts links and annotations into a menu, where nobody finds them, and offers no other place."""
    return {name: value for name, value in settings.items() if value != "inControlsMenu"}


def _datasource(kind: str, label: str) -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable(f"{kind}_datasource").label(f"{label} data source").type(kind)


def _links() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Deckwatch").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(False).include_vars(True).keep_time(True).tooltip("The same time and choice elsewhere")


def _alerts() -> dashboard.AnnotationQuery:
    annotation = _annotation("Alerts", palette.BAD, 'ALERTS{alertstate="firing", @alert}')
    return annotation.title_format("{{alertname}}").text_format("{{instance}} {{target}}").tag_keys("severity")


def _reloads() -> dashboard.AnnotationQuery:
    stamp = "deckwatch_config_last_reload_success_timestamp_seconds{@host} * 1000"
    annotation = _annotation("Config loaded", palette.SKY, stamp).use_value_for_time(True)
    return annotation.title_format("Config loaded").text_format("{{instance}}").tag_keys("instance")


def _annotation(name: str, color: str, text: str) -> dashboard.AnnotationQuery:
    expression = promql(text)
    annotation = dashboard.AnnotationQuery().name(name).enable(True).icon_color(color).datasource(PROMETHEUS)
    target = prometheus.Dataquery().expr(expression).ref_id("Annotation").range()
    return annotation.expr(expression).target(target).step("30s")
