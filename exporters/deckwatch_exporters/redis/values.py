"""Numbers in the replies of a server, and values that cannot be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Malformed
from deckwatch_exporters.clients.redis.resp import ReplyError, number_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Metric, Sample
    from deckwatch_exporters.clients.redis.resp import Reply

#: Servers count in 64 bits. A larger number is a negative one that wrapped around, such as used_memory_dataset in
#: https://github.com/redis/redis/issues/13973.
LARGEST = 2.0**63

_BOOLEANS = {"ok": 1.0, "true": 1.0, "err": 0.0, "fail": 0.0, "false": 0.0}
#: What the server prints for a ratio that is not defined.
_UNDEFINED = frozenset({"nan", "-nan"})
#: Sizes that are differences.
_SIGNED = frozenset({"redis_allocator_frag_bytes", "redis_allocator_rss_bytes", "redis_mem_fragmentation_bytes"})


def figure(text: str | None) -> float | None:
    """A number, or a boolean in the server's words. None for anything else, and for numbers that exceed 64 bits."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return _BOOLEANS.get(text)
    return value if -LARGEST <= value <= LARGEST and "_" not in text else None


def measured(
    metric: Metric, what: str, value: Reply | str, divisor: float = 1.0, /, **labels: str
) -> Iterator[Sample | Malformed]:
    """The sample of a value in a reply, `Malformed(what, ...)` if it is not a possible number, nothing if it is None.

    `divisor` is the number of the value's units in one of the metric's.
    """
    if value is None:
        return
    text = value if isinstance(value, str) else shown(value)
    number = figure(value) if isinstance(value, str) else number_of(value)
    if number is not None and _is_possible(metric, number):
        yield metric(number / divisor, **labels)
    elif text not in _UNDEFINED:
        yield Malformed(what, text)


def shown(reply: Reply) -> str:
    """A reply as the text of a `Malformed`."""
    if isinstance(reply, ReplyError):
        return reply.message
    return text_of(reply) if isinstance(reply, bytes) else repr(reply)[:200]


def assignments(text: str) -> dict[str, str]:
    """`calls=21,usec=175` by name."""
    return dict(pair.partition("=")[::2] for pair in text.split(",") if "=" in pair)


def _is_possible(metric: Metric, value: float) -> bool:
    is_size = metric.unit == "bytes" and metric.name not in _SIGNED
    is_unsigned = metric.type == "counter" or is_size or metric.name.startswith("redis_db_")
    return (0.0 if is_unsigned else -LARGEST) <= value <= LARGEST
