"""Statistics by command: INFO commandstats and latencystats, LATENCY HISTOGRAM."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, Histogram, Malformed, Metric
from deckwatch_exporters.clients.redis.resp import mapping_of, number_of, pairs_of, text_of

from .values import assignments, figure, measured, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Sample, Samples
    from deckwatch_exporters.clients.redis.resp import Reply

_CMD = ("cmd",)

CALLS = Counter("redis_commands_total", "Number of calls of the command.", _CMD)
DURATION = Counter("redis_commands_duration_seconds_total", "Time spent executing the command, in seconds.", _CMD)
REJECTED = Counter(
    "redis_commands_rejected_calls_total", "Number of calls of the command that were rejected before execution.", _CMD
)
FAILED = Counter(
    "redis_commands_failed_calls_total", "Number of calls of the command that failed during execution.", _CMD
)
PERCENTILES = Metric(
    "redis_latency_percentiles_usec",
    "summary",
    "Latency percentiles of the command since the server started, in microseconds; the quantile is in percent.",
    _CMD,
)
LATENCIES = Histogram("redis_commands_latencies_usec", "Latency of the command, in microseconds.", _CMD)

#: By field of INFO commandstats: the metric, and the divisor of its unit. The last two exist since Redis 6.2.
_STATS: dict[str, tuple[Metric, float]] = {
    "calls": (CALLS, 1.0),
    "usec": (DURATION, 1e6),
    "rejected_calls": (REJECTED, 1.0),
    "failed_calls": (FAILED, 1.0),
}


class _Known(NamedTuple):
    stat_text: str
    percentiles_text: str
    microseconds: float | None
    samples: tuple[Sample | Malformed, ...]


class CommandStats:
    """The samples of every command. Those of a command that was not called since the last run are reused.

    A server knows hundreds of commands, and most of them are not called between two runs.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._histograms: dict[str, tuple[float | None, float, tuple[Sample | Malformed, ...]]] = {}

    def from_info(self, commands: Mapping[str, str], percentiles: Mapping[str, str]) -> Samples:
        """`calls=21,usec=175,usec_per_call=8.33,rejected_calls=0,failed_calls=0` by command, and its percentiles."""
        known: dict[str, _Known] = {}
        for cmd, text in commands.items():
            quantiles = percentiles.get(cmd, "")
            entry = self._known.get(cmd)
            if entry is None or entry.stat_text != text or entry.percentiles_text != quantiles:
                values = assignments(text)
                entry = _Known(text, quantiles, figure(values.get("usec")), tuple(_samples(cmd, text, quantiles)))
            known[cmd] = entry
            yield from entry.samples
        self._known = known

    def from_histogram(self, reply: Reply) -> Samples:
        """LATENCY HISTOGRAM (since 7.0): by command its calls and cumulative counts by upper bound.

        Call it after `from_info`: the sum is not in the reply. It is the time in commandstats; that of a container
        command is the sum of its subcommands.
        """
        if reply is not None and not isinstance(reply, (list, dict)):
            yield Malformed("LATENCY HISTOGRAM", shown(reply))
        histograms: dict[str, tuple[float | None, float, tuple[Sample | Malformed, ...]]] = {}
        for cmd, details in mapping_of(reply).items():
            total = self._microseconds(cmd)
            if total is None:
                continue  # first called after INFO, or malformed there
            # Every call increases both. The replies themselves would take as much memory as the samples.
            calls = number_of(mapping_of(details).get("calls"))
            entry = self._histograms.get(cmd)
            if entry is None or calls is None or entry[0] != calls or entry[1] != total:
                entry = (calls, total, tuple(_histogram(cmd, details, total)))
            histograms[cmd] = entry
            yield from entry[2]
        self._histograms = histograms

    def _microseconds(self, cmd: str) -> float | None:
        entry = self._known.get(cmd)
        if entry is not None:
            return entry.microseconds
        parts = [entry.microseconds for name, entry in self._known.items() if name.startswith(f"{cmd}|")]
        known = [part for part in parts if part is not None]
        return sum(known) if known and len(known) == len(parts) else None


def _samples(cmd: str, text: str, quantiles: str) -> Samples:
    values = assignments(text)
    what = f"INFO commandstats: {cmd}"
    if not values.keys() & _STATS.keys():
        yield Malformed(what, text)
    for field, (metric, divisor) in _STATS.items():
        yield from measured(metric, f"{what}: {field}", values.get(field), divisor, cmd=cmd)
    if quantiles:
        yield from _percentiles(cmd, quantiles, values)


def _percentiles(cmd: str, text: str, stat: Mapping[str, str]) -> Samples:
    """`p50=0.001,p99=1.003,p99.9=4.015` in microseconds, with the sum and the count of commandstats."""
    what = f"INFO latencystats: {cmd}"
    found = 0
    for name, value in assignments(text).items():
        microseconds = figure(value)
        if microseconds is not None and microseconds >= 0 and name[:1] == "p" and figure(name[1:]) is not None:
            yield PERCENTILES.part("", microseconds, {"cmd": cmd, "quantile": name[1:]})
            found += 1
        elif value not in ("nan", "-nan"):
            yield Malformed(what, f"{name}={value}")
    if not found and "=" not in text:
        yield Malformed(what, text)
    for suffix, field in (("_sum", "usec"), ("_count", "calls")) if found else ():
        total = figure(stat.get(field))
        if total is not None and total >= 0:  # otherwise reported for commandstats
            yield PERCENTILES.part(suffix, total, {"cmd": cmd})


def _histogram(cmd: str, details: Reply, total: float) -> Iterator[Sample | Malformed]:
    what = f"LATENCY HISTOGRAM: {cmd}"
    values = mapping_of(details)
    calls, bounds = number_of(values.get("calls")), values.get("histogram_usec")
    if calls is None or not isinstance(bounds, (list, dict)):
        yield Malformed(what, shown(details))
        return
    buckets: dict[float, float] = {}
    last = 0.0
    for bound, count in pairs_of(bounds):
        upper, cumulative = number_of(bound), number_of(count)
        if upper is None and isinstance(bound, bytes):
            upper = figure(text_of(bound))
        if upper is None or cumulative is None or not last <= cumulative <= calls:
            yield Malformed(what, f"{shown(bound)}: {shown(count)}")
        else:
            buckets[upper] = last = cumulative
    buckets[inf] = calls
    yield from LATENCIES.cumulative(buckets, total, cmd=cmd)
