"""Dramatiq on Redis: lists of message ids, hashes of messages (dramatiq/brokers/redis/dispatch.lua)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from deckwatch_exporters.clients.redis.patterns import escape_pattern
from deckwatch_exporters.clients.redis.resp import number_of, pack, text_of

from .ages import unix_seconds
from .message import fields_of
from .redis_broker import RedisQueuesSettings, refused
from .redis_layout import Head, Layout, LayoutBroker, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Malformed

    from .message import fields_of
    from .model import Queue
from .redis_broker import RedisBroker

_MESSAGES = ".msgs"
_MAX_WORKERS = 1000


class DramatiqSettings(RedisQueuesSettings):
    """Dramatiq's Redis broker; `namespace` is the broker's."""

    kind: Literal["dramatiq"]
    namespace: str = Field(default="dramatiq", min_length=1)


class DramatiqBroker(LayoutBroker):
    def __init__(self, settings: DramatiqSettings, redis: RedisBroker | None = None) -> None:
        self._prefix = f"{settings.namespace}:"
        key = self._prefix.replace("{", "{{").replace("}", "}}") + "{queue}"
        super().__init__(
            settings,
            Layout(
                kind="dramatiq",
                pattern=f"{escape_pattern(self._prefix)}*{_MESSAGES}",
                queue_of=self._queue_of,
                parts=(
                    Part("length", "LLEN", key),
                    Part("delayed", "LLEN", f"{key}.DQ"),
                    Part("dead", "ZCARD", f"{key}.XQ"),
                ),
                heads=(Head("LINDEX", key, (0,), record=("HGET", f"{key}.msgs", "{id}")),),
                published=_published,
            ),
            redis,
        )

    def _queue_of(self, key: str) -> str:
        name = key.removeprefix(self._prefix).removesuffix(_MESSAGES)
        return name.removesuffix(".DQ").removesuffix(".XQ")

    def _add_figures(self, queues: Mapping[str, Queue]) -> Iterator[Malformed]:
        yield from super()._add_figures(queues)
        beats = f"{self._prefix}__heartbeats__"
        (workers,) = self._redis.ask([pack("ZRANGE", beats, 0, _MAX_WORKERS - 1)])
        if (problem := refused("ZRANGE", beats, workers)) is not None:
            yield problem
        if not isinstance(workers, list):
            return
        # What a worker has fetched: of the delay queue, messages that it holds until they are due.
        held = [
            (queue, figure, f"{self._prefix}__acks__.{text_of(worker)}.{queue.name}{suffix}")
            for queue in queues.values()
            for worker in workers
            for figure, suffix in (("in_flight", ""), ("delayed", ".DQ"))
        ]
        for queue in queues.values():
            queue.in_flight = 0.0
        replies = self._redis.ask([pack("SCARD", key) for _, _, key in held])
        for (queue, figure, key), reply in zip(held, replies, strict=True):
            if (problem := refused("SCARD", key, reply)) is not None:
                yield problem
            before: float | None = getattr(queue, figure)
            count = number_of(reply)
            setattr(queue, figure, None if before is None or count is None else before + count)


def _published(message: bytes) -> float | None:
    return unix_seconds(fields_of(message).get("message_timestamp"))  # nothing without Dramatiq's JSON encoder
