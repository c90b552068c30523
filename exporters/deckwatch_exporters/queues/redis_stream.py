"""Redis streams: each consumer group of a stream is a queue (https://redis.io/docs/latest/commands/xinfo-groups/)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from deckwatch.exporter import Settings
from deckwatch_exporters.clients.redis.resp import ReplyError, mapping_of, number_of, pack, text_of
from deckwatch_exporters.clients.redis.settings import ConnectionSettings

from .ages import exact_age, unix_seconds
from .model import NOTHING_WAITS, Queue
from .redis_broker import RedisBroker, needs, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Finding
    from deckwatch_exporters.clients.redis.resp import Reply

    from .model import Age, Reported


class StreamSettings(Settings):
    """A stream, and one of its groups or all that it has; in short: the name of the stream."""

    stream: str = Field(min_length=1)
    group: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"stream": value} if isinstance(value, str) else value


class RedisStreamSettings(ConnectionSettings):
    """Streams of a Redis. The queue of a group is called `stream/group`, that of a stream without groups `stream`."""

    kind: Literal["redis_stream"]
    queues: tuple[StreamSettings, ...] = Field(min_length=1)


class RedisStreamBroker:
    def __init__(self, settings: RedisStreamSettings) -> None:
        self._settings = settings
        self._redis = RedisBroker(settings)

    def read(self) -> Iterator[Reported]:
        streams = list(dict.fromkeys(one.stream for one in self._settings.queues))
        infos = self._redis.ask_allowed("XINFO", [pack("XINFO", "STREAM", stream) for stream in streams])
        groups = self._redis.ask([pack("XINFO", "GROUPS", stream) for stream in streams])
        queues: dict[str, Queue] = {}
        ends: list[tuple[Queue, str, str]] = []  # a group's queue, its stream, the id after the last delivered one
        for stream, info, found in zip(streams, infos, groups, strict=True):
            if not _is_missing(info) and (problem := refused("XINFO STREAM", stream, info)) is not None:
                yield problem
                continue
            fields = mapping_of(info)
            wanted = {one.group for one in self._settings.queues if one.stream == stream}
            named = _by_name(found)
            if wanted == {""} and not named:
                queues[stream] = _whole_stream(stream, fields)
            for group in sorted(named if "" in wanted else wanted & named.keys()):
                queue = queues[f"{stream}/{group}"] = _group(f"{stream}/{group}", named[group], fields)
                ends.append((queue, stream, _next_id(text_of(named[group].get("last-delivered-id")))))
            for group in sorted(wanted - named.keys() - {""}):
                queues[f"{stream}/{group}"] = _whole_stream(f"{stream}/{group}", fields)
        heads = self._redis.ask([pack("XRANGE", stream, start, "+", "COUNT", 1) for _, stream, start in ends])
        for (queue, stream, _), head in zip(ends, heads, strict=True):
            if (problem := refused("XRANGE", stream, head)) is not None:
                yield problem
            elif head == []:
                queue.oldest = NOTHING_WAITS
                queue.length = 0.0  # a lag that Redis does not know, or that counts deleted entries
            else:
                queue.oldest = _age(head)
        yield from queues.values()

    def check(self) -> Iterator[Finding]:
        return self._redis.check(needs("XINFO", "XRANGE"))

    def close(self) -> None:
        self._redis.close()


def _by_name(groups: Reply) -> dict[str, dict[str, Reply]]:
    fields = map(mapping_of, groups if isinstance(groups, list) else ())
    return {text_of(group.get("name")): group for group in fields}


def _is_missing(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and "no such key" in reply.message.lower()


def _whole_stream(name: str, fields: dict[str, Reply]) -> Queue:
    queue = Queue(name, length=number_of(fields.get("length")) or 0.0, enqueued=number_of(fields.get("entries-added")))
    queue.oldest = _age([fields.get("first-entry")]) if queue.length else NOTHING_WAITS
    return queue


def _group(name: str, group: dict[str, Reply], stream: dict[str, Reply]) -> Queue:
    pending, read = number_of(group.get("pending")), number_of(group.get("entries-read"))
    return Queue(
        name,
        length=number_of(group.get("lag")),  # unknown after a deletion within the stream
        in_flight=pending,
        consumers=number_of(group.get("consumers")),
        enqueued=number_of(stream.get("entries-added")),
        processed=read - pending if read is not None and pending is not None else None,
    )


def _age(entries: Reply) -> Age | None:
    match entries:
        case [[bytes(id), *_], *_] if (moment := unix_seconds(id.partition(b"-")[0])) is not None:
            return exact_age(moment, time.time())
    return None  # an id that is no time


def _next_id(id: str) -> str:
    milliseconds, _, sequence = id.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}" if sequence.isdecimal() else id or "-"
