"""The text formats of an exposition: Prometheus text 0.0.4 and OpenMetrics 1.0.0.

Sources: Prometheus' "Exposition formats" page and the OpenMetrics 1.0.0 specification. Pure functions from samples
to text; negotiation of the format is in `negotiation.py`, what is served is put together by the board.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import orjson

from deckwatch.metrics.declaration import TARGET_LABEL, Sample, escape_label, line_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from deckwatch.metrics.declaration import Extra, Metric, Series

# Text 0.0.4 knows five types only.
_TEXT_TYPES = {"unknown": "untyped", "info": "gauge", "stateset": "gauge", "gaugehistogram": "untyped"}


class Family(NamedTuple):
    """One metric of one run: its series and values, and their lines in both formats (one string where they are equal).

    The lines have no target label: `texts_with_target()` adds it.
    """

    metric: Metric
    series: tuple[Series, ...]
    values: tuple[float, ...]
    text: str
    openmetrics: str
    extras: tuple[Extra | None, ...] | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(map(Sample, self.series, self.values, self.extras or (None,) * len(self.series)))


class _SeriesOf:
    """The series of one metric in the order of their lines."""

    __slots__ = ("__weakref__", "metric", "series")

    def __init__(self, series: tuple[Series, ...]) -> None:
        self.metric = series[0].metric
        self.series = series


class Layouts:
    """What similar targets share: the series of a metric, which mostly have the same labels."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[Series, ...], _SeriesOf] = WeakValueDictionary()

    def of(self, series: tuple[Series, ...]) -> _SeriesOf:
        found = self._known.get(series)
        if found is None:
            found = self._known[series] = _SeriesOf(series)
        return found


class _Layout:
    """What the runs of a collector have in common while they have the same series in the same order."""

    __slots__ = ("by_metric", "metrics", "series", "starts")

    def __init__(self, series: list[Series], shared: Layouts) -> None:
        groups: dict[Metric, list[int]] = {}
        for number, one in enumerate(series):
            groups.setdefault(one.metric, []).append(number)
        order = [number for group in groups.values() for number in group]
        is_sorted = order == list(range(len(order)))
        self.series = series
        #: Puts values in the order of their lines. An itemgetter of one item would not return a tuple, but a single
        #: value is always in order.
        self.by_metric: Callable[[Sequence[Any]], tuple[Any, ...]] = tuple if is_sorted else itemgetter(*order)
        self.starts = [one.text for one in self.by_metric(series)]
        self.metrics = [shared.of(tuple([series[number] for number in group])) for group in groups.values()]


class Encoder:
    """Encodes the samples of one collector. What depends on the series alone is kept until the series change."""

    def __init__(self, layouts: Layouts | None = None) -> None:
        self._layouts = layouts or Layouts()
        self._layout = _Layout([], self._layouts)
        self._values: tuple[float, ...] | None = ()  # of `_families`; None if they have extras
        self._families: tuple[Family, ...] = ()

    def families(self, samples: Iterable[Sample]) -> tuple[Family, ...]:
        """The samples by metric, in order of first appearance. Raises TypeError for a value of another type."""
        samples = list(samples)
        series = [sample[0] for sample in samples]
        known = self._families if self._values is not None else ()
        if series != self._layout.series:
            self._layout, known = _Layout(series, self._layouts), ()
        layout = self._layout
        values: tuple[float, ...] = layout.by_metric([sample[1] for sample in samples])
        extras = [sample[2] for sample in samples]
        if extras.count(None) != len(extras):
            lines = list(map(str.__add__, layout.starts, format_numbers(values)))
            self._families = _with_extras(layout, values, layout.by_metric(extras), lines)
            self._values = None
            return self._families
        if len(known) == len(layout.metrics) and values == self._values:  # many values do not change between runs
            return known
        # All lines of a run at once: one by one, the many families of one sample would cost ten times as much.
        lines = list(map(str.__add__, layout.starts, format_numbers(values)))
        families = []
        end = 0
        for number, shared in enumerate(layout.metrics):
            begin, end = end, end + len(shared.series)
            of_family = values[begin:end]
            if known and known[number][2] == of_family:
                families.append(known[number])
                continue
            text = lines[begin] + "\n" if end - begin == 1 else "\n".join(lines[begin:end]) + "\n"
            families.append(_family(Family, (shared.metric, shared.series, of_family, text, text, None)))
        self._values, self._families = values, tuple(families)
        return self._families


_family = tuple.__new__  # a NamedTuple's own constructor takes three times as long


def _with_extras(
    layout: _Layout, values: tuple[float, ...], extras: tuple[Extra | None, ...], lines: Sequence[str]
) -> tuple[Family, ...]:
    texts = [f"{line}{_text_timestamp(extra)}\n" for line, extra in zip(lines, extras, strict=True)]
    openmetrics = [f"{line}{_openmetrics_extra(extra)}\n" for line, extra in zip(lines, extras, strict=True)]
    families, end = [], 0
    for shared in layout.metrics:
        begin, end = end, end + len(shared.series)
        text, other = "".join(texts[begin:end]), "".join(openmetrics[begin:end])
        families.append(Family(shared.metric, shared.series, values[begin:end], text, other, extras[begin:end]))
    return tuple(families)


def texts_with_target(families: Sequence[Family], target: str, openmetrics: bool) -> list[str]:
    """The lines of each family with the `target` label; an existing label of that name becomes `exported_target`."""
    label = f'{TARGET_LABEL}="{escape_label(target)}"'
    first, only = f"{{{label},", f"{{{label}}} "
    texts = []
    for family in families:
        text, series = family[4] if openmetrics else family[3], family[1]
        if f'{TARGET_LABEL}="' in text:
            lines = zip(series, text[:-1].split("\n"), strict=True)
            text = "".join([f"{one.text_for(target)}{line[len(one.text) :]}\n" for one, line in lines])
        elif len(series) == 1:
            end = len(series[0].name)
            text = f"{text[:end]}{first if text[end] == '{' else only}{text[end + 1 :]}"
        else:
            text = f"\n{text}"  # in the value of a label, a line feed would be escaped
            for name in {one.name for one in series}:
                text = text.replace(f"\n{name}{{", f"\n{name}{first}").replace(f"\n{name} ", f"\n{name}{only}")
            text = text[1:]
        texts.append(text)
    return texts


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
