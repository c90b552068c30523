"""The latency monitor: spikes by event (https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency-monitor/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Malformed
from deckwatch_exporters.clients.redis.resp import text_of

from .values import measured, shown

if TYPE_CHECKING:
    from deckwatch.exporter import Samples
    from deckwatch_exporters.clients.redis.resp import Reply

_EVENT = ("event_name",)

SPIKE_LAST = Gauge(
    "redis_latency_spike_last", "Time of the latest latency spike of the event, in Unix seconds.", _EVENT
)
SPIKE_DURATION = Gauge(
    "redis_latency_spike_duration_seconds", "Duration of the latest latency spike of the event, in seconds.", _EVENT
)


def spike_samples(reply: Reply) -> Samples:
    """LATENCY LATEST: for each event its name, Unix time, latest and longest duration, both in milliseconds."""
    if reply is None:
        return
    if not isinstance(reply, list):
        yield Malformed("LATENCY LATEST", shown(reply))
        return
    for entry in reply:
        match entry:
            case [bytes(name), when, milliseconds, *_] if name:
                event = text_of(name)
                what = f"LATENCY LATEST: {event}"
                yield from measured(SPIKE_LAST, what, when, event_name=event)
                yield from measured(SPIKE_DURATION, what, milliseconds, 1000, event_name=event)
            case _:
                yield Malformed("LATENCY LATEST", shown(entry))
