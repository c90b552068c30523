"""Figures by command: how often, how long, how many failed (INFO commandstats, latencystats; LATENCY HISTOGRAM)."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, Histogram, Metric
from deckwatch_exporters.clients.redis.resp import mapping_of, number_of, pairs_of, text_of

from .info import assignments, figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.redis.resp import Reply

_CMD = ("cmd",)

CALLS = Counter("redis_commands_total", "Calls of the command.", _CMD)
DURATION = Counter("redis_commands_duration_seconds_total", "Time spent on the command, in seconds.", _CMD)
REJECTED = Counter("redis_commands_rejected_calls_total", "Calls of the command that were refused before it ran.", _CMD)
FAILED = Counter("redis_commands_failed_calls_total", "Calls of the command that failed while it ran.", _CMD)
PERCENTILES = Metric(
    "redis_latency_percentiles_usec",
    "summary",
    "Percentiles of the command's latency since the server started, in microseconds; quantile is in percent.",
    _CMD,
)
LATENCIES = Histogram("redis_commands_latencies_usec", "Latencies of the command, in microseconds.", _CMD)


class CommandStat(NamedTuple):
    """What INFO commandstats says of one command. The last two are there since Redis 6.2."""

    calls: float
    usec: float
    rejected: float | None
    failed: float | None


def parse_command_stat(text: str) -> CommandStat | None:
    """`calls=21,usec=175,usec_per_call=8.33,rejected_calls=0,failed_calls=0`; None where it is not that."""
    values = assignments(text)
    calls, usec = figure(values.get("calls")), figure(values.get("usec"))
    if calls is None or usec is None:
        return None
    return CommandStat(calls, usec, figure(values.get("rejected_calls")), figure(values.get("failed_calls")))


def parse_percentiles(text: str) -> list[tuple[str, float]]:
    """`p50=0.001,p99=1.003,p99.9=4.015` as (percent, microseconds)."""
    found = []
    for name, value in assignments(text).items():
        microseconds = figure(value)
        if microseconds is not None and name[:1] == "p" and figure(name[1:]) is not None:
            found.append((name[1:], microseconds))
    return found


class _Known(NamedTuple):
    stat_text: str
    percentiles_text: str
    stat: CommandStat
    samples: tuple[Sample, ...]


class CommandFigures:
    """The samples of every command. Those of a command that nobody has called since the last run are used again.

    A server knows hundreds of commands, and between two runs most of them rest.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._histograms: dict[str, tuple[Reply, float, tuple[Sample, ...]]] = {}

    def from_info(self, commands: Mapping[str, str], percentiles: Mapping[str, str]) -> Iterator[Sample]:
        known: dict[str, _Known] = {}
        for cmd, text in commands.items():
            quantiles = percentiles.get(cmd, "")
            entry = self._known.get(cmd)
            if entry is None or entry.stat_text != text or entry.percentiles_text != quantiles:
                stat = parse_command_stat(text)
                if stat is None:
                    continue
                entry = _Known(text, quantiles, stat, tuple(_samples(cmd, stat, quantiles)))
            known[cmd] = entry
            yield from entry.samples
        self._known = known

    def from_histogram(self, reply: Reply) -> Iterator[Sample]:
        """LATENCY HISTOGRAM (since 7.0): by command its calls and cumulative counts by upper bound. After `from_info`.

        Its own sum is not in the reply: commandstats has it, for a container command that of its subcommands.
        """
        histograms: dict[str, tuple[Reply, float, tuple[Sample, ...]]] = {}
        for cmd, details in mapping_of(reply).items():
            if not isinstance(details, (list, dict)):
                continue
            total = self._microseconds(cmd)
            if total is None:
                continue  # first called after INFO: its sum is not known yet
            entry = self._histograms.get(cmd)
            if entry is None or entry[0] != details or entry[1] != total:
                entry = (details, total, tuple(_histogram(cmd, details, total)))
            histograms[cmd] = entry
            yield from entry[2]
        self._histograms = histograms

    def _microseconds(self, cmd: str) -> float | None:
        entry = self._known.get(cmd)
        if entry is not None:
            return entry.stat.usec
        parts = [entry.stat.usec for name, entry in self._known.items() if name.startswith(f"{cmd}|")]
        return sum(parts) if parts else None


def _samples(cmd: str, stat: CommandStat, quantiles: str) -> Iterator[Sample]:
    yield CALLS(stat.calls, cmd=cmd)
    yield DURATION(stat.usec / 1e6, cmd=cmd)
    if stat.rejected is not None:
        yield REJECTED(stat.rejected, cmd=cmd)
    if stat.failed is not None:
        yield FAILED(stat.failed, cmd=cmd)
    if quantiles and (parsed := parse_percentiles(quantiles)):
        labels = {"cmd": cmd}
        for percent, microseconds in parsed:
            yield PERCENTILES.part("", microseconds, {"cmd": cmd, "quantile": percent})
        yield PERCENTILES.part("_sum", stat.usec, labels)
        yield PERCENTILES.part("_count", stat.calls, labels)


def _histogram(cmd: str, details: Reply, total: float) -> Iterator[Sample]:
    values = mapping_of(details)
    calls, bounds = number_of(values.get("calls")), values.get("histogram_usec")
    if calls is None or not isinstance(bounds, (list, dict)):
        return
    buckets = {}
    for bound, count in pairs_of(bounds):
        upper, cumulative = number_of(bound), number_of(count)
        if upper is None and isinstance(bound, bytes):
            upper = figure(text_of(bound))
        if upper is not None and cumulative is not None:
            buckets[upper] = cumulative
    buckets[inf] = calls
    yield from LATENCIES.cumulative(buckets, total, cmd=cmd)
