"""Encodes samples as write requests of the remote write protocol, versions 1.0 and 2.0.

Sources: https://prometheus.io/docs/specs/prw/remote_write_spec/ and remote_write_spec_2_0/, with the messages
`prometheus.WriteRequest` and `io.prometheus.write.v2.Request`. The beginning of each series is encoded once.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

from deckwatch.logs.loki.protobuf import field, varint
from deckwatch.remote_write.series import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deckwatch.remote_write.series import Line, Metadata, OwnLabels

#: Marks a series that ended: the bits of Prometheus' `StaleNaN`.
STALE = struct.pack("<Q", 0x7FF0000000000002)
_TYPES = {"counter": 1, "gauge": 2, "histogram": 3, "gaugehistogram": 4, "summary": 5, "info": 6, "stateset": 7}
_VALUE = struct.Struct("<d")
_MAX_SERIES = 5000  # of a request
_METADATA_EVERY = 60_000  # milliseconds, as in Prometheus
#: What a scrape adds.
_SCRAPE = """\
# HELP up Whether the agent answers.
# TYPE up gauge
up 1
# HELP scrape_duration_seconds Time to make the exposition, in seconds.
# TYPE scrape_duration_seconds gauge
scrape_duration_seconds {duration:.6f}
# HELP scrape_samples_scraped Number of samples of the exposition.
# TYPE scrape_samples_scraped gauge
scrape_samples_scraped {samples}
"""


class Request(NamedTuple):
    """The body of a request without compression, its number of samples and their time in milliseconds."""

    body: bytes
    samples: int
    time: int


class _Version(Protocol):
    def start(self, labels: tuple[tuple[str, str], ...], metadata: Metadata) -> bytes:
        """The fields of a series that do not change."""

    def series(self, start: bytes, sample: bytes) -> bytes: ...

    def request(self, series: Sequence[bytes], metadata: Iterable[Metadata]) -> bytes: ...


class Version1:
    """WriteRequest { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }

    TimeSeries { repeated Label labels = 1; repeated Sample samples = 2; }
    """

    def start(self, labels: tuple[tuple[str, str], ...], _metadata: Metadata) -> bytes:
        return b"".join(field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in labels)

    def series(self, start: bytes, sample: bytes) -> bytes:
        return field(1, start + field(2, sample))

    def request(self, series: Sequence[bytes], metadata: Iterable[Metadata]) -> bytes:
        described = (
            field(
                3,
                b"\x08%b%b%b"
                % (varint(_TYPES.get(it.type, 0)), field(2, it.name.encode()), field(4, it.help.encode())),
            )
            for it in metadata
        )
        return b"".join((*series, *described))


class Version2:
    """Request { repeated string symbols = 4; repeated TimeSeries timeseries = 5; }

    TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2; Metadata metadata = 5; }
    Metadata { MetricType type = 1; uint32 help_ref = 3; }

    The table of symbols is that of all series that were sent so far.
    """

    def __init__(self) -> None:
        self._symbols: dict[str, int] = {"": 0}

    def start(self, labels: tuple[tuple[str, str], ...], metadata: Metadata) -> bytes:
        references = b"".join(varint(self._symbol(text)) for label in labels for text in label)
        described = b"\x08%b\x18%b" % (varint(_TYPES.get(metadata.type, 0)), varint(self._symbol(metadata.help)))
        return field(1, references) + field(5, described)

    def _symbol(self, text: str) -> int:
        return self._symbols.setdefault(text, len(self._symbols))

    def series(self, start: bytes, sample: bytes) -> bytes:
        return field(5, start + field(2, sample))

    def request(self, series: Sequence[bytes], _metadata: Iterable[Metadata]) -> bytes:
        return b"".join((*(field(4, text.encode()) for text in self._symbols), *series))


_VERSIONS: dict[str, type[Version1 | Version2]] = {"1.0": Version1, "2.0": Version2}


class RequestEncoder:
    """Turns expositions into requests, and ends the series that the last exposition had and this one lacks."""

    def __init__(self, protocol: str, labels: OwnLabels) -> None:
        self._protocol = protocol
        self._labels = labels
        self._version: _Version = _VERSIONS[protocol]()
        self._starts: dict[bytes, bytes] = {}
        self._live: dict[bytes, Metadata] = {}
        self._described = -_METADATA_EVERY

    def requests(self, exposition: bytes, time: int, duration: float) -> Iterator[Request]:
        """The samples of a scrape at `time`, in Unix milliseconds, that took `duration` seconds."""
        lines = list(lines_of(exposition))
        lines += lines_of(_SCRAPE.format(duration=duration, samples=len(lines)).encode())
        now = varint(time)
        series = [self._encoded(line.key, line.metadata, _sample(line, now)) for line in lines]
        live = {line.key: line.metadata for line in lines}
        series += self._ended((key for key in self._live if key not in live), now)
        self._live = live
        self._forget_old_starts()
        metadata: Sequence[Metadata] = ()
        if time - self._described >= _METADATA_EVERY:
            metadata, self._described = sorted(set(live.values())), time
        yield from self._in_pieces(series, metadata, time)

    def ends(self, time: int) -> Iterator[Request]:
        """Ends all series: the agent stops."""
        series = self._ended(self._live, varint(time))
        self._live = {}
        yield from self._in_pieces(series, (), time)

    def _in_pieces(self, series: Sequence[bytes], metadata: Sequence[Metadata], time: int) -> Iterator[Request]:
        for begin in range(0, len(series), _MAX_SERIES):
            piece = series[begin : begin + _MAX_SERIES]
            yield Request(self._version.request(piece, () if begin else metadata), len(piece), time)

    def _encoded(self, key: bytes, metadata: Metadata, sample: bytes) -> bytes:
        start = self._starts.get(key)
        if start is None:
            start = self._starts[key] = self._version.start(self._labels.of(key), metadata)
        return self._version.series(start, sample)

    def _ended(self, keys: Iterable[bytes], now: bytes) -> list[bytes]:
        mark = b"\x09%b\x10%b" % (STALE, now)
        return [self._encoded(key, self._live[key], mark) for key in keys]

    def _forget_old_starts(self) -> None:
        if len(self._starts) > 2 * len(self._live) + 1000:
            # The symbols of version 2 start again, too.
            self._version, self._starts = _VERSIONS[self._protocol](), {}


def _sample(line: Line, now: bytes) -> bytes:
    # NaN of a source is never the mark of an ended series.
    value = _VALUE.pack(math.nan if math.isnan(line.value) else line.value)
    return b"\x09%b\x10%b" % (value, now if line.time is None else varint(line.time))
