"""The `metrics` of a `logs.files` entry: what is counted or measured in log lines."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .metric_names import MetricLabel, MetricName
from .patterns import Pattern
from .values import Settings

#: Upper bounds in seconds, those of Prometheus' client libraries.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _no_nan(bound: float) -> float:
    if math.isnan(bound):
        raise ValueError("numbers as upper bounds")
    return bound


class LogMetricSettings(Settings):
    """A metric made from the lines that `match`: the expressions by field (`line` is the whole text) all have to match.

    A counter counts these lines, or adds up the values of `field`. A histogram observes the values of `field`, and a
    gauge has the last one. Values are multiplied by `scale`: 0.001 turns milliseconds into seconds. `labels` are fields
    by label name. Beyond `max_series`, all further lines share the label value `other`.
    """

    name: MetricName
    type: Literal["counter", "histogram", "gauge"] = "counter"
    help: str = Field(default="", max_length=1000)
    field: str = ""
    match: dict[str, Pattern] = Field(default_factory=dict)
    labels: dict[MetricLabel, str] = Field(default_factory=dict)
    buckets: tuple[Annotated[float, AfterValidator(_no_nan)], ...] = ()
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    max_series: int = Field(default=1000, ge=1, le=100_000)

    @model_validator(mode="after")
    def _consistent(self) -> LogMetricSettings:
        if (self.type == "counter") != self.name.endswith("_total"):
            if self.type == "counter":
                raise ValueError(f"a counter's name that ends with _total: {self.name}_total")
            raise ValueError(f"type: counter for {self.name}, or a name without _total")
        if self.type != "counter" and not self.field:
            raise ValueError(f"field: the field with the value of {self.name}")
        if self.buckets and self.type != "histogram":
            raise ValueError("buckets only with type: histogram")
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError("buckets in ascending order")
        return self

    @property
    def bounds(self) -> tuple[float, ...]:
        """The upper bounds of a histogram's buckets, without infinity."""
        return tuple(bound for bound in self.buckets or _BUCKETS if bound != float("inf"))

    @property
    def declaration(self) -> tuple[object, ...]:
        """What has to be the same wherever the metric is used."""
        return self.type, frozenset(self.labels), self.bounds if self.type == "histogram" else (), self.help


def checked_declarations(metrics: tuple[LogMetricSettings, ...]) -> None:
    """Raise ValueError if two metrics have the same name and cannot be one metric."""
    known: dict[str, tuple[object, ...]] = {}
    for metric in metrics:
        if known.setdefault(metric.name, metric.declaration) != metric.declaration:
            raise ValueError(f"the same type, labels, buckets and help for {metric.name} in all files")
