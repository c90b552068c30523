"""Metric declarations. A metric is declared once, at module level; calling it with a value makes a sample.

    USED = Gauge("redis_memory_used_bytes", "Memory used by Redis, in bytes.")
    KEYS = Gauge("redis_db_keys", "Keys in the database.", ["db"])

    yield USED(info["used_memory"])
    yield KEYS(n, db="db0")

Metrics with names that depend on the host (fields of `/proc/meminfo`, hwmon's sensors) are declared as a
`MetricPattern`. The text of a series (`name{a="b"} `) is rendered once and kept while a snapshot holds the series, so
that a run over known series builds no label strings and a series that disappears costs no memory.
"""

from __future__ import annotations

import re
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

MetricType = Literal["counter", "gauge", "histogram", "summary", "unknown", "info", "stateset", "gaugehistogram"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

#: The label with the target's name. The board adds it; metrics do not declare it.
TARGET_LABEL = "target"


class Exemplar(NamedTuple):
    """An OpenMetrics exemplar: labels (a trace id), the value that was observed, and when (Unix seconds)."""

    labels: tuple[tuple[str, str], ...]
    value: float
    timestamp: float | None = None


class Extra(NamedTuple):
    """Optional parts of a sample: a timestamp (Unix seconds) and an exemplar."""

    timestamp: float | None = None
    exemplar: Exemplar | None = None


class Series:
    """A metric with one set of label values. `text` is how its line begins: `name{label="value"} `."""

    __slots__ = ("__weakref__", "labels", "metric", "name", "text")

    def __init__(self, metric: Metric, name: str, labels: tuple[tuple[str, str], ...]) -> None:
        self.metric = metric
        self.name = name
        self.labels = labels
        self.text = line_start(name, labels)

    def text_for(self, target: str) -> str:
        """Like `text`, with the `target` label; an existing label of that name becomes `exported_target`."""
        names = {name for name, _ in self.labels}
        exported = f"exported_{TARGET_LABEL}"
        while exported in names:
            exported = f"exported_{exported}"
        labels = [(exported if name == TARGET_LABEL else name, value) for name, value in self.labels]
        return line_start(self.name, ((TARGET_LABEL, target), *labels))

    def __repr__(self) -> str:
        return f"<Series {self.text.rstrip()}>"


class Sample(NamedTuple):
    """A value of one series."""

    series: Series
    value: float
    extra: Extra | None = None


def line_start(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """`name{label="value"} ` with the values escaped as both text formats require; undecodable bytes become `?`."""
    rendered = ",".join(f'{label}="{escape_label(value)}"' for label, value in labels)
    return f"{name}{{{rendered}}} " if rendered else f"{name} "


def escape_label(value: str) -> str:
    if not value.isascii():
        # Names of files and processes can contain bytes that are not UTF-8 (surrogates here). A single one would
        # make Prometheus refuse the whole scrape.
        value = value.encode("utf-8", "replace").decode()
    return value.translate(_ESCAPES)


class _SeriesRef(weakref.ref[Series]):
    __slots__ = ("key",)
    key: tuple[object, ...]


class Metric:
    """A declared metric. Calling it with a value, and a keyword for each label, makes a `Sample`.

    Raises `TypeError` from the call when the labels are not those that were declared or a value is not a string:
    both are programming errors, never faults of the target.
    """

    __slots__ = ("_series", "help", "labels", "name", "type", "unit")

    def __init__(self, name: str, type: MetricType, help: str, labels: Sequence[str] = (), unit: str = "") -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a metric name: {name!r}")
        for label in labels:
            if not _LABEL.fullmatch(label) or label.startswith("__"):
                raise ValueError(f"{name}: not a label name: {label!r}")
        if len(set(labels)) != len(labels):
            raise ValueError(f"{name}: a label is declared twice: {', '.join(labels)}")
        self.name = name
        self.type: MetricType = type
        self.help = help
        self.labels = tuple(labels)
        self.unit = unit or unit_of(name)
        self._series: dict[tuple[object, ...], _SeriesRef] = {}

    def __call__(self, value: float, /, **labels: str) -> Sample:
        ref = self._series.get(tuple(labels.items()) if labels else ())
        series = ref() if ref is not None else None
        if series is None:
            series = self._remember(tuple(labels.items()), "", labels)
        return _sample(Sample, (series, value, None))

    def part(self, suffix: str, value: float, labels: Mapping[str, str], extra: Extra | None = None) -> Sample:
        """A sample of a histogram or summary: `suffix` is `_bucket` (with `le`), `_sum`, `_count` or ``."""
        key = (suffix, *labels.items())
        ref = self._series.get(key)
        series = ref() if ref is not None else None
        if series is None:
            series = self._remember(key, suffix, labels)
        return _sample(Sample, (series, value, extra))

    def _remember(self, key: tuple[object, ...], suffix: str, labels: Mapping[str, str]) -> Series:
        extra = {"le"} if suffix == "_bucket" else {"quantile"} if self.type == "summary" and not suffix else set()
        if labels.keys() - extra != set(self.labels):
            raise TypeError(f"{self.name} takes the labels ({', '.join(self.labels)}), got ({', '.join(labels)})")
        for label, value in labels.items():
            if not isinstance(value, str):
                raise TypeError(f"{self.name}: the value of label {label!r} is {value!r}, not a string")
        ordered = [*self.labels, *(label for label in labels if label in extra)]
        series = Series(self, self.name + suffix, tuple((label, labels[label]) for label in ordered))
        known = self._series

        def forget(ref: weakref.ref[Series]) -> None:
            if known.get(key) is ref:
                del known[key]

        ref = _SeriesRef(series, forget)
        ref.key = key
        known[key] = ref
        return series

    def __repr__(self) -> str:
        return f"<{self.type} {self.name}{{{', '.join(self.labels)}}}>"


_sample = tuple.__new__  # a NamedTuple's own constructor takes three times as long


@dataclass(frozen=True)
class MetricPattern:
    """Metrics with names that depend on the host: `name` contains one `*`, which `named()` replaces.

    >>> MEMORY = MetricPattern("node_memory_*", "gauge", "Memory information field {}.")
    >>> MEMORY.named("MemFree_bytes")
    <gauge node_memory_MemFree_bytes{}>
    """

    name: str
    type: MetricType
    help: str  # `{}` is replaced by the same text as `*`
    labels: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if self.name.count("*") != 1:
            raise ValueError(f"a pattern holds one '*': {self.name!r}")
        object.__setattr__(self, "_made", {})

    def named(self, part: str, help: str | None = None) -> Metric:
        """The metric with `part` in the place of `*`; characters that are invalid in a name become `_`."""
        made: dict[str, Metric] = self._made  # type: ignore[attr-defined]  # set past the frozen __setattr__
        metric = made.get(part)
        if metric is None:
            name = self.name.replace("*", re.sub(r"[^a-zA-Z0-9_:]", "_", part))
            metric = Metric(name, self.type, help or self.help.replace("{}", part), self.labels, self.unit)
            made[part] = metric
        return metric

    def matches(self, name: str) -> bool:
        before, after = self.name.split("*")
        return name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)


_UNITS = ("seconds", "bytes", "ratio", "celsius", "volts", "amperes", "watts", "joules", "hertz", "rpm")


def unit_of(name: str) -> str:
    """The base unit that a metric's name ends in (before `_total`), or `` where it names none."""
    stem = name.removesuffix("_total").rsplit("_", 1)[-1]
    return stem if stem in _UNITS else ""


class Counter(Metric):
    """A total that only grows; a fall is a reset."""

    __slots__ = ()

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), unit: str = "") -> None:
        super().__init__(name, "counter", help, labels, unit)


class Gauge(Metric):
    """A value that can go up and down."""

    __slots__ = ()

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), unit: str = "") -> None:
        super().__init__(name, "gauge", help, labels, unit)


class Info(Metric):
    """Metadata as labels of a series of value 1; its name ends in `_info`."""

    __slots__ = ()

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, "info", help, labels)


class Untyped(Metric):
    """A metric of unknown type, such as the kernel's fields that node_exporter exposes under their own names."""

    __slots__ = ()

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), unit: str = "") -> None:
        super().__init__(name, "unknown", help, labels, unit)


class Histogram(Metric):
    """A distribution of observed values."""

    __slots__ = ()

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), unit: str = "") -> None:
        super().__init__(name, "histogram", help, labels, unit)

    def counted(self, counts: Mapping[float, float], total: float, /, **labels: str) -> Iterator[Sample]:
        """The samples of observations counted by bucket.

        `counts` maps each upper bound to the number of observations in its bucket alone; `inf` may be left out.
        `total` is the sum of the observed values.
        """
        cumulative, count = {}, 0.0
        for bound in sorted({*counts, float("inf")}):
            count += counts.get(bound, 0.0)
            cumulative[bound] = count
        return self.cumulative(cumulative, total, **labels)

    def cumulative(self, buckets: Mapping[float, float], total: float, /, **labels: str) -> Iterator[Sample]:
        """The samples of a histogram that is cumulative already.

        `buckets` maps each upper bound, `inf` included, to the number of observations up to it.
        """
        count = 0.0
        for bound in sorted(buckets):
            count = buckets[bound]
            le = "+Inf" if bound == float("inf") else repr(float(bound))
            yield self.part("_bucket", count, {**labels, "le": le})
        yield self.part("_sum", total, labels)
        yield self.part("_count", count, labels)


class Summary(Metric):
    """A sum and a count of observed values, with quantiles where the source computes them."""

    __slots__ = ()

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), unit: str = "") -> None:
        super().__init__(name, "summary", help, labels, unit)

    def observed(
        self, count: float, total: float, quantiles: Mapping[str, float] | None = None, /, **labels: str
    ) -> Iterator[Sample]:
        """The samples: `quantiles` maps each quantile (`0.99`) to its value."""
        for quantile, value in (quantiles or {}).items():
            yield self.part("", value, {**labels, "quantile": quantile})
        yield self.part("_sum", total, labels)
        yield self.part("_count", count, labels)


def declared_in(*modules: ModuleType) -> tuple[Metric | MetricPattern, ...]:
    """Every metric at the top level of the modules, by name."""
    found: dict[str, Metric | MetricPattern] = {}
    for module in modules:
        for thing in vars(module).values():
            for metric in (
                thing.values() if isinstance(thing, dict) else thing if isinstance(thing, tuple) else (thing,)
            ):
                if isinstance(metric, (Metric, MetricPattern)):
                    found[metric.name] = metric
    return tuple(found[name] for name in sorted(found))
