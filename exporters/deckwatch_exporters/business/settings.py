"""The settings of a business target: where its figures are, which there are, and when they are read."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from deckwatch.exporter import Duration, MetricLabel, MetricName, Secret, Settings
from deckwatch_exporters.clients.dsn import Dsn, require_one_password
from deckwatch_exporters.clients.redis.settings import ConnectionSettings

from .schedule import Schedule

MetricKind = Literal["gauge", "counter", "histogram", "info"]


class MetricSettings(Settings):
    """A metric made from the rows of a query.

    `value` is the column with the value and `labels` are the columns with label values. A histogram needs `buckets`,
    unless the query returns the counts of its buckets: then `le` is the column with their upper bounds.
    """

    name: MetricName
    type: MetricKind = "gauge"
    help: str = Field(default="", max_length=1000)
    labels: tuple[MetricLabel, ...] = ()
    value: str = "value"
    buckets: tuple[float, ...] = ()
    le: str = ""
    max_series: int = Field(default=1000, ge=1, le=100_000)

    @model_validator(mode="after")
    def _consistent(self) -> MetricSettings:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("each label once in labels")
        if self.type == "counter" and not self.name.endswith("_total"):
            raise ValueError(f"a counter's name that ends with _total: {self.name}_total")
        if self.type != "counter" and self.name.endswith("_total"):
            raise ValueError(f"type: counter for {self.name}, or a name without _total")
        if self.type == "info" and not self.name.endswith("_info"):
            raise ValueError(f"an info metric's name that ends with _info: {self.name}_info")
        if self.type == "histogram" and bool(self.buckets) == bool(self.le):
            raise ValueError("for a histogram, buckets (with a value in each row) or le (with a count in each row)")
        if self.type != "histogram" and (self.buckets or self.le):
            raise ValueError("buckets and le only with type: histogram")
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError("buckets in ascending order")
        return self


class Scheduling(Settings):
    """When a query runs: every `schedule`, or at the times of `cron` in `timezone`."""

    schedule: Duration | None = Field(default=None, ge=1)
    cron: str | None = None
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _one_schedule(self) -> Scheduling:
        if self.schedule is not None and self.cron is not None:
            raise ValueError("only one of: schedule, cron")
        if self.cron is not None:
            Schedule.at(self.cron, self.timezone)
        return self


class SingleMetric(MetricSettings, Scheduling):
    """A metric with its query."""

    query: str = Field(min_length=1)


class QuerySettings(Scheduling):
    """A query that several metrics are made from."""

    query: str = Field(min_length=1)
    metrics: tuple[MetricSettings, ...] = Field(min_length=1)


class HttpSettings(Settings):
    """A JSON document. Queries are JMESPath expressions."""

    url: str
    bearer_token: Secret | None = None
    headers: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_http(self) -> HttpSettings:
        if not re.match(r"https?://[^/?#@\s]+", self.url) or "@" in self.url.partition("?")[0]:
            raise ValueError("a URL such as https://api.example/stats, without user and password")
        return self


class RedisSettings(ConnectionSettings):
    """A Redis server. Queries are commands such as `HGET stats orders` or `SCAN session:*`."""


class BusinessSettings(Scheduling):
    """The figures of one source.

    The source is a PostgreSQL database (`dsn`), an SQLite file (`sqlite`), any database of SQLAlchemy (`sqlalchemy`), a
    Redis server (`redis`) or a JSON document (`json`). `timeout` limits each query. With `singleton`, only one of the
    agents with this target reads the figures.
    """

    dsn: Dsn | None = None
    password: Secret | None = None
    search_path: tuple[str, ...] = Field(default=("$user", "public"), min_length=1)
    sqlite: str | None = None
    sqlalchemy: Secret | None = None
    redis: RedisSettings | None = None
    json_: HttpSettings | None = Field(default=None, alias="json")
    timeout: Duration = Field(default=5.0, le=60)
    singleton: bool = False
    metrics: tuple[SingleMetric, ...] = ()
    queries: tuple[QuerySettings, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> BusinessSettings:
        sources = {
            "dsn": self.dsn,
            "sqlite": self.sqlite,
            "sqlalchemy": self.sqlalchemy,
            "redis": self.redis,
            "json": self.json_,
        }
        given = [name for name, value in sources.items() if value is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of: {', '.join(sources)}")
        if self.dsn is not None:
            require_one_password(self.dsn, self.password)
        if self.singleton and self.dsn is None and self.redis is None:
            raise ValueError("singleton with dsn or redis: the agents agree by a lock there")
        names = [metric.name for query in self.all_queries for metric in query.metrics]
        if not names:
            raise ValueError("at least one metric in metrics or queries")
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"each metric once: {repeated} is declared twice")
        return self

    @property
    def all_queries(self) -> tuple[QuerySettings, ...]:
        """The queries, those of single metrics included."""
        return (*(_alone(metric) for metric in self.metrics), *self.queries)

    def schedule_of(self, query: QuerySettings) -> Schedule:
        """The schedule of a query: its own, the target's, or every 60 seconds."""
        chosen = query if query.cron is not None or query.schedule is not None else self
        if chosen.cron is not None:
            return Schedule.at(chosen.cron, chosen.timezone)
        return Schedule.every(chosen.schedule or 60.0)


def _alone(metric: SingleMetric) -> QuerySettings:
    values: dict[str, Any] = {name: getattr(metric, name) for name in MetricSettings.model_fields}
    return QuerySettings(
        query=metric.query,
        schedule=metric.schedule,
        cron=metric.cron,
        timezone=metric.timezone,
        metrics=(MetricSettings(**values),),
    )
