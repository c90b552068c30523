"""Metrics that others leave in `*.prom` files (cron jobs, mostly), in Prometheus' text format 0.0.4.

A broken file fails alone: it is left out, named in the log when that begins, and counted as an error.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.collector import describe
from deckwatch.config import Settings
from deckwatch.metric import Metric, MetricType, Sample, Series, gauge

from .paths import Paths, list_dir, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

MTIME = gauge("node_textfile_mtime_seconds", "When the file was changed last, in Unix seconds.", ["file"])
SCRAPE_ERROR = gauge("node_textfile_scrape_error", "1 if a file could not be read or understood, else 0.")
FILE_ERROR = gauge("deckwatch_textfile_error", "1 if this file could not be read or understood, else 0.", ["file"])

_TYPES: dict[str, MetricType] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "untyped": "unknown",
}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(.*)\})?\s*([^\s{]\S*)(?:\s+(\S+))?")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPE = re.compile(r"\\(.)")


class TextfileSettings(Settings):
    """The folders with `*.prom` files. The default is where Debian's node_exporter looks."""

    directories: tuple[str, ...] = ("/var/lib/prometheus/node-exporter",)


@dataclass(frozen=True)
class _File:
    """What a file held when it looked like this."""

    stamp: tuple[int, int, int]
    samples: tuple[Sample, ...]
    error: str


class Textfile:
    def __init__(self, paths: Paths, settings: TextfileSettings, logger: logging.Logger) -> None:
        self._directories = [paths.in_root(directory) for directory in settings.directories]
        self._log = logger
        self._files: dict[str, _File] = {}

    def collect(self) -> Iterator[Sample]:
        before, self._files = self._files, {}
        for directory in self._directories:
            for name in list_dir(directory):
                if name.endswith(".prom"):
                    path = f"{directory}/{name}"
                    self._files[path] = self._read(path, before.get(path))
        seen: dict[str, str] = {}
        for path, file in self._files.items():
            yield FILE_ERROR(bool(file.error), file=path)
            if not file.error:
                yield MTIME(file.stamp[0] / 1e9, file=path)
            for sample in file.samples:
                # Two files that hold the same series: the first one has it.
                if seen.setdefault(sample.series.text, path) == path:
                    yield sample
        yield SCRAPE_ERROR(any(file.error for file in self._files.values()))

    def _read(self, path: str, before: _File | None) -> _File:
        try:
            status = os.stat(path)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if before is not None and before.stamp == stamp:
                return before
            return _File(stamp, tuple(parse(read_text(path), path)), "")
        except (OSError, ValueError) as failure:
            error = describe(failure)
            if before is None or before.error != error:
                self._log.warning(
                    "textfile %s is left out: %s", path, error, extra={"event": "textfile.failed", "file": path}
                )
            return _File((-1, -1, -1), (), error)


def parse(text: str, path: str) -> Iterator[Sample]:
    """The samples of an exposition, in its order. Raises ValueError with the line's number."""
    helps: dict[str, str] = {}
    types: dict[str, MetricType] = {}
    metrics: dict[str, Metric] = {}
    seen: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if line.startswith("#"):
            parts = line.split(None, 3)
            if len(parts) >= 3 and parts[1] == "HELP":
                help_text = parts[3] if len(parts) == 4 else ""
                helps[parts[2]] = _ESCAPE.sub(_unescape, help_text)
            elif len(parts) == 4 and parts[1] == "TYPE":
                if parts[3] not in _TYPES:
                    raise ValueError(f"line {number}: unknown type {parts[3]!r}")
                types[parts[2]] = _TYPES[parts[3]]
            continue
        if not line:
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number}: not a sample: {line[:80]!r}")
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
            raise ValueError(f"line {number}: stands twice: {series.text.rstrip()}")
        seen.add(series.text)
        yield Sample(series, _number(value, number))


def _family(name: str, types: dict[str, MetricType]) -> str:
    """The metric that a sample belongs to: `x` for `x_bucket`, where `x` was declared as a histogram."""
    if name not in types:
        for kind, suffixes in _SUFFIXES.items():
            for suffix in suffixes:
                if name.endswith(suffix) and types.get(name.removesuffix(suffix)) == kind:
                    return name.removesuffix(suffix)
    return name


def _labels(text: str, number: int) -> tuple[tuple[str, str], ...]:
    labels: dict[str, str] = {}
    position = 0
    while position < len(text.rstrip()):
        match = _LABEL.match(text, position)
        if match is None or match[1] in labels:
            raise ValueError(f"line {number}: not labels: {{{text[:80]}}}")
        labels[match[1]] = _ESCAPE.sub(_unescape, match[2])
        position = match.end()
    return tuple(labels.items())


def _unescape(match: re.Match[str]) -> str:
    return {"n": "\n", "\\": "\\", '"': '"'}.get(match[1], match[0])


def _number(text: str, number: int) -> float:
    try:
        if "_" in text:  # Python takes 1_000, Prometheus does not
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"line {number}: not a number: {text[:40]!r}") from None
