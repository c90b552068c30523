"""The text formats of an exposition: Prometheus text 0.0.4 and OpenMetrics 1.0.0.

Sources: Prometheus' "Exposition formats" page and the OpenMetrics 1.0.0 specification. Pure functions from samples
to text; negotiation of the format is in `negotiation.py`, what is served is put together by the board.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from deckwatch.metrics.declaration import TARGET_LABEL, line_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from deckwatch.metrics.declaration import Extra, Metric, Sample, Series

# Text 0.0.4 knows five types only.
_TEXT_TYPES = {"unknown": "untyped", "info": "gauge", "stateset": "gauge", "gaugehistogram": "untyped"}


class Family(NamedTuple):
    """The samples of one metric from one run, and their lines in both formats (one string where they are equal)."""

    metric: Metric
    samples: tuple[Sample, ...]
    text: str
    openmetrics: str


class _Layout(NamedTuple):
    """What the runs of a collector have in common while they have the same series in the same order."""

    series: list[Series]
    by_metric: Callable[[Sequence[Any]], tuple[Any, ...]]  # puts samples or series in the order of their lines
    starts: list[str]  # the beginnings of the lines
    families: list[tuple[Metric, int, int]]  # the first line of each metric, and the one after its last


class Encoder:
    """Encodes the samples of one collector. What depends on the series alone is kept until the series change.

    With a `target`, each line has that label.
    """

    def __init__(self, target: str = "") -> None:
        self._target = target
        self._layout = _Layout([], tuple, [], [])
        self._samples: list[Sample] = []
        self._families: tuple[Family, ...] = ()

    def families(self, samples: Iterable[Sample]) -> tuple[Family, ...]:
        """The samples by metric, in order of first appearance. Raises TypeError for a value of another type."""
        samples = list(samples)
        if samples == self._samples:  # many values do not change between runs
            return self._families
        series = [sample[0] for sample in samples]
        if series != self._layout.series:
            self._layout = self._arrange(series)
        _, by_metric, starts, metrics = self._layout
        flat: tuple[Sample, ...] = by_metric(samples)
        # All lines of a run at once: one by one, the many families of one sample would cost ten times as much.
        lines = list(map(str.__add__, starts, format_numbers([sample[1] for sample in flat])))
        if [sample[2] for sample in flat].count(None) != len(flat):
            families = [_with_extras(metric, flat[begin:end], lines[begin:end]) for metric, begin, end in metrics]
        else:
            families = []
            for metric, begin, end in metrics:
                text = lines[begin] + "\n" if end - begin == 1 else "\n".join(lines[begin:end]) + "\n"
                families.append(_family(Family, (metric, flat[begin:end], text, text)))
        self._samples, self._families = samples, tuple(families)
        return self._families

    def _arrange(self, series: list[Series]) -> _Layout:
        groups: dict[Metric, list[int]] = {}
        for number, one in enumerate(series):
            groups.setdefault(one.metric, []).append(number)
        order = [number for group in groups.values() for number in group]
        is_sorted = order == list(range(len(order)))
        families, end = [], 0
        for metric, group in groups.items():
            begin, end = end, end + len(group)
            families.append((metric, begin, end))
        starts = self._line_starts([series[number] for number in order])
        # An itemgetter of a single item would not return a tuple, but a single sample is always in order.
        return _Layout(series, tuple if is_sorted else itemgetter(*order), starts, families)

    def _line_starts(self, series: Sequence[Series]) -> list[str]:
        if not self._target:
            return [one.text for one in series]
        before = self._layout
        known = dict(zip(before.by_metric(before.series), before.starts, strict=True))
        return [known.get(one) or one.text_for(self._target) for one in series]


_family = tuple.__new__  # a NamedTuple's own constructor takes three times as long


def _with_extras(metric: Metric, samples: Sequence[Sample], lines: Sequence[str]) -> Family:
    text = "".join(line + _text_timestamp(sample[2]) + "\n" for line, sample in zip(lines, samples, strict=True))
    openmetrics = "".join(
        line + _openmetrics_extra(sample[2]) + "\n" for line, sample in zip(lines, samples, strict=True)
    )
    return Family(metric, tuple(samples), text, openmetrics)


def without_target(families: Sequence[Family], target: str) -> tuple[Family, ...]:
    """Families of an encoder with a target, as one without it encodes them."""
    label = line_start("", ((TARGET_LABEL, target),))[:-2]  # `{target="..."`
    first, only = label + ",", label + "} "
    # In the value of a label, the quotes after `target=` would be escaped. Exemplars have other labels.
    if any(f"exported_{TARGET_LABEL}=" in it.text or it.text is not it.openmetrics for it in families):
        return Encoder().families(sample for family in families for sample in family.samples)
    texts = [it.text.replace(first, "{").replace(only, " ") for it in families]
    return tuple(Family(it.metric, it.samples, text, text) for it, text in zip(families, texts, strict=True))


def format_numbers(values: Sequence[float]) -> list[str]:
    """Each value as both formats write it (`1.5`, `3`, `+Inf`, `NaN`). Raises TypeError for anything but numbers.

    orjson writes a list of floats at a quarter of what `repr` takes for each, and turns all that needs care
    (not finite, not a number) into something no number looks like.
    """
    try:
        joined = orjson.dumps(values)
    except TypeError:  # integers above 64 bits, and other types
        return [format_number(value) for value in values]
    if b'"' in joined or b"{" in joined or joined.rfind(b"[") > 0:
        return [format_number(value) for value in values]
    written = joined[1:-1].decode("ascii").split(",") if values else []
    if b"l" in joined:  # null (not finite) and false; true
        return [format_number(value) if text in _WORDS else text for text, value in zip(written, values, strict=True)]
    if b"u" in joined:
        return ["1" if text == "true" else text for text in written]
    return written


_WORDS = frozenset(("null", "true", "false"))


def format_number(value: float) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(int(value))
    if not isinstance(value, float):
        raise TypeError(f"a sample's value is {value!r}, not a number")
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _text_timestamp(extra: Extra | None) -> str:
    """Milliseconds in text 0.0.4."""
    if extra is None or extra.timestamp is None:
        return ""
    return f" {round(extra.timestamp * 1000)}"


def _openmetrics_extra(extra: Extra | None) -> str:
    """Seconds, and the exemplar, in OpenMetrics."""
    if extra is None:
        return ""
    text = "" if extra.timestamp is None else f" {format_number(extra.timestamp)}"
    if extra.exemplar is not None:
        labels, value, timestamp = extra.exemplar
        braces = line_start("", labels).strip() or "{}"
        text += f" # {braces} {format_number(value)}"
        if timestamp is not None:
            text += f" {format_number(timestamp)}"
    return text


def text_header(metric: Metric) -> str:
    """The HELP and TYPE lines of text 0.0.4."""
    help_text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {metric.name} {help_text}\n# TYPE {metric.name} {_TEXT_TYPES.get(metric.type, metric.type)}\n"


def openmetrics_header(metric: Metric, taken: frozenset[str] = frozenset()) -> str:
    """The TYPE, UNIT and HELP lines of OpenMetrics.

    OpenMetrics wants counters' samples to end in `_total` and names the family without it. A peer's counter that
    does not (`pg_stat_database_xact_commit`), or that shares its family name with another (`taken`), is declared
    `unknown`, so that the name of its samples is the same in both formats.
    """
    family, kind = metric.name, metric.type
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    if suffix:
        stem = family.removesuffix(suffix)
        if stem == family or stem in taken:
            kind = "unknown"
        else:
            family = stem
    elif kind in ("gauge", "unknown") and family.endswith(("_total", "_info", "_created", "_bucket")):
        kind = "unknown"  # a gauge of such a name is refused by strict parsers
    help_text = metric.help.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    unit = f"# UNIT {family} {metric.unit}\n" if metric.unit and family.endswith("_" + metric.unit) else ""
    return f"# TYPE {family} {kind}\n{unit}# HELP {family} {help_text}\n"
