"""Metrics that other programs, such as cron jobs, write to `*.prom` files in Prometheus' text format 0.0.4.

A file with an error is left out as a whole, which is logged once and reported by `node_textfile_scrape_error`.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Gauge, Incomplete, Metric, MetricType, Sample, Series, Settings, describe

from .paths import Paths, printable, read_bytes

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Results

MTIME = Gauge("node_textfile_mtime_seconds", "Time at which the file was last modified, in Unix seconds.", ["file"])
SCRAPE_ERROR = Gauge(
    "node_textfile_scrape_error", "Whether any file could not be read or conflicts with another one (1) or not (0)."
)
FILE_ERROR = Gauge(
    "deckwatch_textfile_error",
    "Whether the file could not be read or conflicts with another one (1) or not (0).",
    ["file"],
)

_OWN_NAMES = {metric.name for metric in (MTIME, SCRAPE_ERROR, FILE_ERROR)}

_TYPES: dict[str, MetricType] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "untyped": "unknown",
}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:[ \t]*\{(.*)\}[ \t]*|[ \t]+)([^\s{}][^\s}]*)(?:[ \t]+([^\s}]+))?")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPE = re.compile(r"\\(.)")


class TextfileSettings(Settings):
    """`directories`: folders with `*.prom` files on the host; they may contain wildcards.

    The default is the folder of Debian's node_exporter.
    """

    directories: tuple[str, ...] = ("/var/lib/prometheus/node-exporter",)


class _File(NamedTuple):
    """The samples of a file in the version that `stamp` identifies (mtime in ns, inode, size; None if unknown)."""

    stamp: tuple[int, int, int] | None
    samples: tuple[Sample, ...]
    error: str


class Textfile:
    def __init__(self, paths: Paths, settings: TextfileSettings, logger: logging.Logger) -> None:
        self._directories = [paths.in_root(directory) for directory in settings.directories]
        self._log = logger
        self._files: dict[str, _File] = {}
        self._unreadable: dict[str, str] = {}  # error by folder
        self._conflicts: dict[str, str] = {}  # error by file
        self._samples: tuple[Sample, ...] = ()

    def collect(self) -> Results:
        before, unreadable_before = self._files, self._unreadable
        self._files, self._unreadable = {}, {}
        for directory in self._folders():
            for name in self._names(directory, unreadable_before):
                path = f"{directory}/{name}"
                self._files[path] = self._read(path, before.get(path))
        if any(before.get(path) is not file for path, file in self._files.items()) or len(before) != len(self._files):
            self._merge()
        for path, file in self._files.items():
            is_error = bool(file.error) or path in self._conflicts
            yield FILE_ERROR(int(is_error), file=printable(path))
            if not file.error and file.stamp is not None:
                # Whole seconds, as in node_exporter.
                yield MTIME(file.stamp[0] // 1_000_000_000, file=printable(path))
        yield from self._samples
        errors = self._unreadable | self._conflicts
        errors |= {path: file.error for path, file in self._files.items() if file.error}
        yield SCRAPE_ERROR(int(bool(errors)))
        for path, error in errors.items():
            yield Incomplete(f"textfile {printable(path)}: {error}")

    def _merge(self) -> None:
        """Merge the samples of all files. If files conflict, the first one in the order of their names wins."""
        conflicts_before, self._conflicts = self._conflicts, {}
        merged = merge({path: file.samples for path, file in self._files.items()}, self._conflicts)
        self._samples = tuple(merged)
        for path, conflict in self._conflicts.items():
            if conflicts_before.get(path) != conflict:
                self._warn(path, f"{conflict}. Remove it from one of the files.")

    def _folders(self) -> Iterator[str]:
        for directory in self._directories:
            yield from sorted(glob.glob(directory)) if glob.has_magic(directory) else [directory]

    def _names(self, directory: str, unreadable_before: Mapping[str, str]) -> list[str]:
        try:
            return sorted(name for name in os.listdir(directory) if name.endswith(".prom"))
        except FileNotFoundError:
            return []
        except OSError as failure:
            self._unreadable[directory] = describe(failure)
            if directory not in unreadable_before:
                self._warn(directory, f"{describe(failure)}. Make the folder readable for the agent.")
            return []

    def _read(self, path: str, before: _File | None) -> _File:
        stamp = None
        try:
            status = os.stat(path)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if before is not None and before.stamp == stamp:
                return before
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("not a regular file")  # reading a pipe would block
            samples = tuple(parse(decode(read_bytes(path)), path))
        except (OSError, ValueError) as failure:
            error = describe(failure)
            if before is None or not before.error:
                self._warn(path, f"{error}. Fix the file or remove it.")
            return _File(stamp, (), error)
        if before is not None and before.error:
            self._log.info("textfile %s can be read again", path, extra={"event": "textfile.recovered", "file": path})
        return _File(stamp, samples, "")

    def _warn(self, path: str, error: str) -> None:
        self._log.warning("textfile %s: %s", path, error, extra={"event": "textfile.failed", "file": path})


def merge(files: Mapping[str, tuple[Sample, ...]], conflicts: dict[str, str]) -> list[Sample]:
    """The samples of all files (by path), with one metric per name.

    A metric may have series from several files. A series or a type that contradicts an earlier file is a conflict: the
    sample is left out, and the first conflict of each file is added to `conflicts`.
    """
    types: dict[str, tuple[MetricType, str]] = {}  # by metric name, with the path of the file
    for path, samples in files.items():
        for metric in dict.fromkeys(sample.series.metric for sample in samples):
            type, declared_in = types.get(metric.name, ("unknown", path))
            if type == "unknown" and metric.type not in _SUFFIXES:
                types[metric.name] = (metric.type, declared_in if type == metric.type else path)
            else:
                types.setdefault(metric.name, (metric.type, path))
    metrics: dict[str, Metric] = {}
    merged: dict[str, tuple[Sample, str]] = {}  # by series, with the path of the file
    for path, samples in files.items():
        for sample in samples:
            series = sample.series
            name = series.metric.name
            type, declared_in = types[name]
            earlier = merged.get(series.text)
            if name in _OWN_NAMES:
                conflicts.setdefault(path, f"{name} is a metric of Deckwatch")
            elif series.metric.type not in (type, "unknown") or (type in _SUFFIXES and series.metric.type != type):
                conflicts.setdefault(path, f"{name} is a {series.metric.type} here and a {type} in {declared_in}")
            elif earlier is not None:
                conflicts.setdefault(path, f"{series.text.rstrip()} is also in {earlier[1]}")
            else:
                metric = metrics.setdefault(name, series.metric)
                if metric.type != type:
                    metric = metrics[name] = Metric(name, type, metric.help)
                if series.metric is not metric:
                    series = Series(metric, series.name, series.labels)
                merged[series.text] = (Sample(series, sample.value), path)
    return [sample for sample, _ in merged.values()]


def decode(content: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark. Raises ValueError."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("line 1: the file is not UTF-8") from None


def parse(text: str, path: str) -> Iterator[Sample]:
    """The samples of an exposition, in its order.

    As strict as node_exporter's parser where a lenient one could return wrong values. Raises ValueError with the number
    of the line and without its text: a symbolic link can lead to a file that readers of the log may not see.
    """
    helps: dict[str, str] = {}
    types: dict[str, MetricType] = {}
    metrics: dict[str, Metric] = {}
    seen: set[str] = set()
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line.startswith("#"):
            _declaration(line, number, helps, types, metrics)
            continue
        if not line:
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number}: malformed sample")
        name, labels, value, timestamp = match.groups()
        if timestamp is not None:
            raise ValueError(f"line {number}: timestamps are not supported in these files")
        family = _family(name, types)
        metric = metrics.get(family)
        if metric is None:
            kind = types.get(family, "unknown")
            metric = metrics[family] = Metric(family, kind, helps.get(family) or f"Metric read from {path}")
        series = Series(metric, name, _labels(labels or "", number))
        if series.text in seen:
            raise ValueError(f"line {number}: repeated series")
        seen.add(series.text)
        yield Sample(series, _number(value, number))
    if lines[-1].strip():
        # Without the line feed that the format requires, the file may be incomplete and its last number truncated.
        raise ValueError(f"line {len(lines)}: no line feed at the end of the file")


def _declaration(
    line: str, number: int, helps: dict[str, str], types: dict[str, MetricType], metrics: Mapping[str, Metric]
) -> None:
    """Add the declaration of a HELP or TYPE line; other comments are ignored."""
    keyword, name, rest = (*line[1:].split(None, 2), "", "", "")[:3]
    if keyword == "HELP" and name:
        if name in helps:
            raise ValueError(f"line {number}: repeated HELP")
        helps[name] = _ESCAPE.sub(_unescape, rest)
    elif keyword == "TYPE" and name:
        if rest not in _TYPES:
            raise ValueError(f"line {number}: unknown type")
        if name in types or name in metrics:
            raise ValueError(f"line {number}: TYPE is repeated or follows the samples of its metric")
        types[name] = _TYPES[rest]


def _family(name: str, types: dict[str, MetricType]) -> str:
    """The metric of a sample: `x` for `x_bucket` if `x` was declared as a histogram."""
    if name not in types:
        for kind, suffixes in _SUFFIXES.items():
            for suffix in suffixes:
                if name.endswith(suffix) and types.get(name.removesuffix(suffix)) == kind:
                    return name.removesuffix(suffix)
    return name


def _labels(text: str, number: int) -> tuple[tuple[str, str], ...]:
    """Labels in a unique form: sorted, and without empty ones, which Prometheus treats as absent."""
    labels: dict[str, str] = {}
    position = 0
    while position < len(text.rstrip()):
        match = _LABEL.match(text, position)
        if match is None or match[1] in labels or match[1] == "__name__":
            raise ValueError(f"line {number}: malformed labels")
        labels[match[1]] = _ESCAPE.sub(_unescape, match[2])
        position = match.end()
    return tuple(sorted((label, value) for label, value in labels.items() if value))


def _unescape(match: re.Match[str]) -> str:
    return {"n": "\n", "\\": "\\", '"': '"'}.get(match[1], match[0])


def _number(text: str, number: int) -> float:
    try:
        if "_" in text or not text.isascii():  # numbers for Python, but not for Prometheus
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"line {number}: malformed number") from None
