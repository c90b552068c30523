"""The latency monitor: spikes by event (https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency-monitor/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.resp import number_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.redis.resp import Reply

_EVENT = ("event_name",)

SPIKE_LAST = Gauge("redis_latency_spike_last", "When the event's last latency spike was, in Unix seconds.", _EVENT)
SPIKE_DURATION = Gauge(
    "redis_latency_spike_duration_seconds", "Length of the event's last latency spike, in seconds.", _EVENT
)


def spike_samples(reply: Reply) -> Iterator[Sample]:
    """LATENCY LATEST: for each event its name, when, how long and the longest so far, both in milliseconds."""
    for entry in reply if isinstance(reply, list) else ():
        if not isinstance(entry, list) or len(entry) < 3:
            continue
        event, when, milliseconds = text_of(entry[0]), number_of(entry[1]), number_of(entry[2])
        if event and when is not None and milliseconds is not None:
            yield SPIKE_LAST(when, event_name=event)
            yield SPIKE_DURATION(milliseconds / 1000, event_name=event)
