"""Sources of Celery's events. Each event is a mapping with a `type` such as `task-sent`.

A message has one event or a list of them: celery/events/dispatcher.py. On Redis, the exchange of events is a fanout,
which is a channel for each routing key: `/{database}.celeryev/task.multi`. The message is kombu's envelope, JSON with a
base64 `body`: kombu/transport/virtual/base.py. On RabbitMQ it is a topic exchange, and the message is the JSON itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from deckwatch.exporter import Finding, Missing
from deckwatch_exporters.clients.rabbitmq.consumer import Consumer
from deckwatch_exporters.clients.redis.patterns import escape_pattern
from deckwatch_exporters.clients.redis.subscription import Subscription

from .message import json_of, kombu_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deckwatch_exporters.clients.rabbitmq.address import Address
    from deckwatch_exporters.clients.rabbitmq.settings import ConnectionSettings as RabbitmqSettings
    from deckwatch_exporters.clients.redis.settings import ConnectionSettings

Event = dict[str, Any]

_EXCHANGE = "celeryev"


class NotEvents(Exception):
    """A message that does not contain events. The message of the error quotes nothing, as arguments may be secret."""


class EventStream(Protocol):
    """An open connection. `receive()` returns after `seconds` at most. Raises Unreachable."""

    def receive(self, seconds: float) -> Iterable[bytes]: ...

    def close(self) -> None: ...


class EventSource(Protocol):
    """Where events come from. `connect()` raises Unreachable and Missing, `events_of()` NotEvents."""

    def connect(self) -> EventStream: ...

    def events_of(self, message: bytes) -> list[Event]: ...


class RedisEventSource:
    """The events on a Redis; `global_keyprefix` is Celery's transport option."""

    def __init__(self, settings: ConnectionSettings, global_keyprefix: str) -> None:
        self._settings = settings
        exchange = f"{global_keyprefix}/{settings.address.db}.{_EXCHANGE}"
        self._pattern = f"{escape_pattern(exchange)}/*"

    def connect(self) -> EventStream:
        return Subscription(self._settings, self._pattern)

    def events_of(self, message: bytes) -> list[Event]:
        body = kombu_body(message)
        if body is None:
            raise NotEvents("not a message of kombu")
        return parse_events(body)


class RabbitmqEventSource:
    """The events in a virtual host of RabbitMQ."""

    def __init__(self, settings: RabbitmqSettings, address: Address) -> None:
        self._settings = settings
        self._address = address

    def connect(self) -> EventStream:
        return Consumer(self._settings, self._address, _EXCHANGE)

    def events_of(self, message: bytes) -> list[Event]:
        return parse_events(message)


def check_events(source: EventSource) -> Iterator[Finding]:
    """A finding if the right to receive the events is missing. Raises Unreachable."""
    try:
        source.connect().close()
    except Missing as missing:
        yield Finding("missing", missing.what, missing.remedy)


def parse_events(body: bytes) -> list[Event]:
    """The events in the body of a message. Raises NotEvents."""
    found = json_of(body)
    if found is None:
        raise NotEvents("the body is not JSON. Set event_serializer to json in Celery")
    events = found if isinstance(found, list) else [found]
    if not all(isinstance(event, dict) and isinstance(event.get("type"), str) for event in events):
        raise NotEvents("an event is not a mapping with a type")
    return events
