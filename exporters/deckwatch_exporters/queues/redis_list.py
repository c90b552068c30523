"""Queues that an application keeps in Redis lists itself, with LPUSH and BRPOP or the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from deckwatch.exporter import Malformed, Missing, Settings
from deckwatch_exporters.clients.redis.resp import number_of, pack, text_of
from deckwatch_exporters.clients.redis.settings import ConnectionSettings

from .ages import HeadAges, unix_seconds
from .message import json_of
from .model import NOTHING_WAITS, Queue
from .redis_broker import Need, RedisBroker, needs, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Finding

    from .model import Reported

#: What tells the number of a key's elements, by its type.
_SIZES = {"list": "LLEN", "zset": "ZCARD", "set": "SCARD", "hash": "HLEN", "stream": "XLEN"}
_PARTS = ("in_flight", "delayed", "dead")


class ListSettings(Settings):
    """A list, and the keys (of any type) of its other messages; in short: the name of the list."""

    key: str = Field(min_length=1)
    name: str = ""
    in_flight: str = ""
    delayed: str = ""
    dead: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"key": value} if isinstance(value, str) else value


class RedisListSettings(ConnectionSettings):
    """Lists of a Redis. `pop` is the end that consumers take messages from.

    `timestamp_field` is the field of a JSON message with its time; without it messages have to differ for an age.
    """

    kind: Literal["redis_list"]
    queues: tuple[ListSettings, ...] = Field(min_length=1)
    pop: Literal["left", "right"] = "right"
    timestamp_field: str = ""

    @field_validator("queues")
    @classmethod
    def _differ(cls, queues: tuple[ListSettings, ...]) -> tuple[ListSettings, ...]:
        if len({one.name or one.key for one in queues}) < len(queues):
            raise ValueError("queues with different names: give each a `name`")
        return queues


class RedisListBroker:
    def __init__(self, settings: RedisListSettings) -> None:
        self._settings = settings
        self._redis = RedisBroker(settings)
        self._ages = HeadAges(self._published)
        self._lists = {one.name or one.key: one for one in settings.queues}

    def read(self) -> Iterator[Reported]:
        position = 0 if self._settings.pop == "left" else -1
        lengths = self._redis.ask_allowed("LLEN", [pack("LLEN", one.key) for one in self._lists.values()])
        try:
            commands = [pack("LINDEX", one.key, position) for one in self._lists.values()]
            heads = self._redis.ask_allowed("LINDEX", commands)
        except Missing as missing:
            yield Malformed("LINDEX", str(missing))
            heads = [None] * len(lengths)
        queues: dict[str, Queue] = {}
        for (name, one), length, head in zip(self._lists.items(), lengths, heads, strict=True):
            if (problem := refused("LLEN", one.key, length)) is not None:
                yield problem
            queue = queues[name] = Queue(name, length=number_of(length))
            if isinstance(head, bytes):
                queue.oldest = self._ages.age(name, head)
            elif queue.length == 0:
                queue.oldest = NOTHING_WAITS
        self._ages.keep([name for name, queue in queues.items() if queue.length])
        yield from self._add_parts(queues)
        yield from queues.values()

    def check(self) -> Iterator[Finding]:
        yield from self._redis.check((*needs("LLEN", "LINDEX"), Need(("TYPE", "deckwatch:no-such-key"), "+type")))

    def close(self) -> None:
        self._redis.close()

    def _add_parts(self, queues: dict[str, Queue]) -> Iterator[Malformed]:
        parts = [(name, part, getattr(one, part)) for name, one in self._lists.items() for part in _PARTS]
        parts = [part for part in parts if part[2]]
        types = self._redis.ask([pack("TYPE", key) for _, _, key in parts])
        sized: list[tuple[str, str, str, str]] = []
        for (name, part, key), kind in zip(parts, types, strict=True):
            if (problem := refused("TYPE", key, kind)) is not None:
                yield problem
            elif text_of(kind) == "none":
                setattr(queues[name], part, 0.0)
            elif (command := _SIZES.get(text_of(kind))) is not None:
                sized.append((name, part, key, command))
            else:
                yield Malformed(f"TYPE {key}", text_of(kind))
        replies = self._redis.ask([pack(command, key) for _, _, key, command in sized])
        for (name, part, key, command), size in zip(sized, replies, strict=True):
            if (problem := refused(command, key, size)) is not None:
                yield problem
            setattr(queues[name], part, number_of(size))

    def _published(self, message: bytes) -> float | None:
        if not self._settings.timestamp_field:
            return None
        try:
            return unix_seconds(json_of(message)[self._settings.timestamp_field])
        except (KeyError, TypeError, IndexError):
            return None
