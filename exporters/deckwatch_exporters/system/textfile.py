"""Metrics that others leave in `*.prom` files (cron jobs, mostly), in Prometheus' text format 0.0.4.

A broken file fails alone: it is left out, named in the log when that begins, and counted as an error.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Gauge, Metric, MetricType, Sample, Series, Settings, describe

from .paths import Paths, read_text

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Iterator, Mapping

MTIME = Gauge("node_textfile_mtime_seconds", "When the file was changed last, in Unix seconds.", ["file"])
SCRAPE_ERROR = Gauge("node_textfile_scrape_error", "1 if a file could not be read or understood, else 0.")
FILE_ERROR = Gauge("deckwatch_textfile_error", "1 if this file could not be read or understood, else 0.", ["file"])

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
    """The folders with `*.prom` files, below the root mount; `*` and the like may stand for a part of a name.

    The default is where Debian's node_exporter looks.
    """

    directories: tuple[str, ...] = ("/var/lib/prometheus/node-exporter",)


class _File(NamedTuple):
    """What a file held when it looked like `stamp` (mtime in ns, inode, size; None where it could not be asked)."""

    stamp: tuple[int, int, int] | None
    samples: tuple[Sample, ...]
    error: str


class Textfile:
    def __init__(self, paths: Paths, settings: TextfileSettings, logger: logging.Logger) -> None:
        self._directories = [paths.in_root(directory) for directory in settings.directories]
        self._log = logger
        self._files: dict[str, _File] = {}
        self._unreadable: dict[str, str] = {}  # folders, with what is wrong
        self._samples: tuple[Sample, ...] = ()

    def collect(self) -> Iterator[Sample]:
        before, unreadable_before = self._files, self._unreadable
        self._files, self._unreadable = {}, {}
        for directory in self._folders():
            for name in self._names(directory, unreadable_before):
                path = f"{directory}/{name}"
                self._files[path] = self._read(path, before.get(path))
        if any(before.get(path) is not file for path, file in self._files.items()) or len(before) != len(self._files):
            self._samples = _merge(self._files.values())
        for path, file in self._files.items():
            yield FILE_ERROR(int(bool(file.error)), file=path)
            if not file.error and file.stamp is not None:
                yield MTIME(file.stamp[0] // 1_000_000_000, file=path)  # whole seconds, as node_exporter has it
        yield from self._samples
        yield SCRAPE_ERROR(int(bool(self._unreadable) or any(file.error for file in self._files.values())))

    def _folders(self) -> Iterator[str]:
        for directory in self._directories:
            yield from sorted(glob.glob(directory)) if glob.has_magic(directory) else [directory]

    def _names(self, directory: str, unreadable_before: Mapping[str, str]) -> list[str]:
        try:
            return sorted(name for name in os.listdir(directory) if name.endswith(".prom"))
        except FileNotFoundError:
            return []  # nobody has left anything there yet
        except OSError as failure:
            self._unreadable[directory] = describe(failure)
            if directory not in unreadable_before:
                self._warn(directory, describe(failure))
            return []

    def _read(self, path: str, before: _File | None) -> _File:
        stamp = None
        try:
            status = os.stat(path)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if before is not None and before.stamp == stamp:
                return before
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("not a regular file")  # a pipe would keep the reader waiting for ever
            samples = tuple(parse(read_text(path), path))
        except (OSError, ValueError) as failure:
            error = describe(failure)
            if before is None or not before.error:
                self._warn(path, error)
            return _File(stamp, (), error)
        if before is not None and before.error:
            self._log.info("textfile %s is read again", path, extra={"event": "textfile.recovered", "file": path})
        return _File(stamp, samples, "")

    def _warn(self, path: str, error: str) -> None:
        self._log.warning("textfile %s is left out: %s", path, error, extra={"event": "textfile.failed", "file": path})


def _merge(files: Iterable[_File]) -> tuple[Sample, ...]:
    """The samples of all files. Where two files hold the same series, the first one has it."""
    samples: dict[str, Sample] = {}
    for file in files:
        for sample in file.samples:
            samples.setdefault(sample.series.text, sample)
    return tuple(samples.values())


def parse(text: str, path: str) -> Iterator[Sample]:
    """The samples of an exposition, in its order, under the names that it has.

    As strict as node_exporter's parser where that keeps wrong figures out. Raises ValueError with the number of the
    line and nothing of its text: a symbolic link may lead to a file that is not for every reader of the log.
    """
    if not text.isascii():
        _check_utf8(text)
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
            raise ValueError(f"line {number}: not a sample")
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
            raise ValueError(f"line {number}: a series that stands twice")
        seen.add(series.text)
        yield Sample(series, _number(value, number))
    if lines[-1].strip():
        # The format wants a line feed there. Without one the file may be half written, and its last number cut short.
        raise ValueError(f"line {len(lines)}: ends without a line feed")


def _check_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("line 1: the file is not UTF-8") from None


def _declaration(
    line: str, number: int, helps: dict[str, str], types: dict[str, MetricType], metrics: Mapping[str, Metric]
) -> None:
    """Takes in a HELP or TYPE line; any other comment is of no interest."""
    keyword, name, rest = (*line[1:].split(None, 2), "", "", "")[:3]
    if keyword == "HELP" and name:
        if name in helps:
            raise ValueError(f"line {number}: a second HELP of the same metric")
        helps[name] = _ESCAPE.sub(_unescape, rest)
    elif keyword == "TYPE" and name:
        if rest not in _TYPES:
            raise ValueError(f"line {number}: unknown type")
        if name in types or name in metrics:
            raise ValueError(f"line {number}: a TYPE that comes twice, or after the samples of its metric")
        types[name] = _TYPES[rest]


def _family(name: str, types: dict[str, MetricType]) -> str:
    """The metric that a sample belongs to: `x` for `x_bucket`, where `x` was declared as a histogram."""
    if name not in types:
        for kind, suffixes in _SUFFIXES.items():
            for suffix in suffixes:
                if name.endswith(suffix) and types.get(name.removesuffix(suffix)) == kind:
                    return name.removesuffix(suffix)
    return name


def _labels(text: str, number: int) -> tuple[tuple[str, str], ...]:
    """Sorted and without empty ones, which Prometheus takes for absent: equal series have equal texts."""
    labels: dict[str, str] = {}
    position = 0
    while position < len(text.rstrip()):
        match = _LABEL.match(text, position)
        if match is None or match[1] in labels or match[1] == "__name__":
            raise ValueError(f"line {number}: not labels")
        labels[match[1]] = _ESCAPE.sub(_unescape, match[2])
        position = match.end()
    return tuple(sorted((label, value) for label, value in labels.items() if value))


def _unescape(match: re.Match[str]) -> str:
    return {"n": "\n", "\\": "\\", '"': '"'}.get(match[1], match[0])


def _number(text: str, number: int) -> float:
    try:
        if "_" in text:  # Python takes 1_000, Prometheus does not
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"line {number}: not a number") from None
