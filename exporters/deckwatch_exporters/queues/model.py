"""What every broker reports of a queue, whatever it is made of. A figure that a broker cannot report is None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from deckwatch.exporter import Counter, Gauge, Malformed, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deckwatch.exporter import Finding, Metric

_QUEUE = ("queue", "kind")
_WRAPPED = 2.0**63  # from here on, a count is a negative one that wrapped around

UP = Gauge("queue_up", "Whether the broker can be read (1) or not (0).")
OLDEST_AGE = Gauge(
    "queue_oldest_message_age_seconds",
    "Age of the oldest message that waits in the queue, in seconds; 0 if none waits.",
    _QUEUE,
)
OLDEST_AGE_EXACT = Gauge(
    "queue_oldest_message_age_exact",
    "Whether the age of the oldest message is exact (1) or a lower bound, counted since Deckwatch first saw it (0).",
    _QUEUE,
)

#: By the field of `Queue`.
FIGURES: dict[str, Metric] = {
    "length": Gauge("queue_length", "Messages that wait in the queue.", _QUEUE),
    "in_flight": Gauge("queue_in_flight", "Messages delivered to consumers and not acknowledged yet.", _QUEUE),
    "oldest_in_flight": Gauge(
        "queue_oldest_in_flight_age_seconds",
        "Time since the delivery of the message that has been in flight for longest, in seconds; 0 if none is.",
        _QUEUE,
    ),
    "delayed": Gauge("queue_delayed", "Messages scheduled for later.", _QUEUE),
    "dead": Gauge("queue_dead", "Messages that failed and are kept, such as dead letters.", _QUEUE),
    "consumers": Gauge("queue_consumers", "Consumers of the queue, as the broker counts them.", _QUEUE),
    "enqueued": Counter("queue_enqueued_total", "Messages added to the queue, as counted by the broker.", _QUEUE),
    "processed": Counter("queue_processed_total", "Messages processed, as counted by the broker.", _QUEUE),
}


class Age(NamedTuple):
    """The age of a message in seconds; a lower bound unless it is exact."""

    seconds: float
    is_exact: bool


#: Of an empty queue.
NOTHING_WAITS = Age(0.0, True)


@dataclass
class Queue:
    """The figures of one queue."""

    name: str
    length: float | None = None
    oldest: Age | None = None
    in_flight: float | None = None
    oldest_in_flight: float | None = None
    delayed: float | None = None
    dead: float | None = None
    consumers: float | None = None
    enqueued: float | None = None
    processed: float | None = None

    def samples(self, kind: str) -> Iterator[Sample]:
        labels = {"queue": self.name, "kind": kind}
        for field, metric in FIGURES.items():
            value: float | None = getattr(self, field)
            if value is not None:
                yield metric(value, **labels)
        if self.oldest is not None:
            yield OLDEST_AGE(self.oldest.seconds, **labels)
            yield OLDEST_AGE_EXACT(float(self.oldest.is_exact), **labels)


#: What a broker reports: queues, and the peers' metrics beside them.
Reported: TypeAlias = "Queue | Sample | Malformed"


class Broker(Protocol):
    """Reads the queues of one target. `read()` raises Unreachable, Missing."""

    def read(self) -> Iterable[Reported]: ...

    def check(self) -> Iterable[Finding]: ...

    def close(self) -> None: ...


class QueueCollector:
    """The collector of one target."""

    def __init__(self, kind: str, broker: Broker) -> None:
        self._kind = kind
        self._broker = broker

    def collect(self) -> Iterator[Sample | Malformed]:
        for item in self._broker.read():
            for found in item.samples(self._kind) if isinstance(item, Queue) else (item,):
                if isinstance(found, Sample) and not 0 <= found.value < _WRAPPED:
                    yield Malformed(found.series.text.rstrip(), repr(found.value))
                else:
                    yield found
