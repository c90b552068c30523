"""Celery on RabbitMQ: classic and quorum queues."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from deckwatch.exporter import Gauge, Refresh
from deckwatch_exporters.clients.rabbitmq.mailbox import Mailbox

from .celery import LENGTH, is_internal
from .celery_events_settings import CeleryEventsSettings
from .celery_events_source import EventSource, RabbitmqEventSource, check_events
from .celery_workers import MAILBOX
from .rabbitmq_reader import RabbitmqQueuesSettings, RabbitmqReader
from .rabbitmq_routes import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Finding

    from .model import Reported
    from .rabbitmq_reader import BrokerQueue

CONSUMERS = Gauge("celery_active_consumer_count", "Consumers of the queue, as the broker counts them.", ["queue_name"])
DELAYED = Gauge(
    "celery_delayed_messages",
    "Messages with an ETA in Celery's native delayed delivery, for all queues of the virtual host.",
)

# Level N holds messages for 2^N seconds: kombu/transport/native_delayed_delivery.py.
_LEVELS = tuple(f"celery_delayed_{level}" for level in range(28))
_LEVEL = re.compile(r"(?:.+_)?celery_delayed_[0-9]+")  # a prefix is configurable


class CeleryRabbitmqSettings(CeleryEventsSettings, RabbitmqQueuesSettings):
    """Celery on RabbitMQ."""

    kind: Literal["celery"]

    @model_validator(mode="after")
    def _events_over_amqp(self) -> CeleryRabbitmqSettings:
        if self.amqp is None and (self.events or self.ask_workers):
            what = "events come" if self.events else "the answers of workers come"
            raise ValueError(f"url (amqp://host) beside management_url: {what} over AMQP")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return self.queues or (() if self.management else ("celery",))


def rabbitmq_mailbox(settings: CeleryRabbitmqSettings, identity: str) -> Mailbox:
    assert settings.amqp is not None
    return Mailbox(settings, settings.amqp, MAILBOX, identity)


def rabbitmq_events(settings: CeleryRabbitmqSettings) -> EventSource:
    assert settings.amqp is not None
    return RabbitmqEventSource(settings, settings.amqp)


class CeleryRabbitmqBroker:
    def __init__(self, settings: CeleryRabbitmqSettings) -> None:
        self._settings = settings
        self._configured = settings.names
        self._reader = RabbitmqReader(settings)
        management = self._reader.management
        self._dead_letters = DeadLetters(management, self._reader.vhost) if management is not None else None
        self._levels_due = Refresh(60.0)
        self._levels: tuple[str, ...] = ()

    def read(self) -> Iterator[Reported]:
        further = self._delay_queues() if self._reader.management is None else ()
        found, problems = self._reader.read(further)
        yield from problems
        made = {name: self._reader.figures(queue) for name, queue in found.items() if self._has_tasks(queue)}
        if self._dead_letters is not None:
            yield from self._dead_letters.add_to(made, found, self._reader.deadline)
        for name, figures in made.items():
            yield figures
            if figures.length is not None:
                yield LENGTH(figures.length, queue_name=name)
            if figures.consumers is not None:
                yield CONSUMERS(figures.consumers, queue_name=name)
        if (delayed := _delayed(found)) is not None:
            yield DELAYED(delayed)

    def check(self) -> Iterator[Finding]:
        if self._settings.events:
            yield from check_events(rabbitmq_events(self._settings))
        yield from self._reader.check("celery", lambda found: filter(self._has_tasks, found.values()))

    def close(self) -> None:
        self._reader.close()

    def _has_tasks(self, queue: BrokerQueue) -> bool:
        """Whether it carries tasks: not remote control, events, results or delayed delivery."""
        if queue.name in self._configured:
            return True
        return self._reader.selects(queue) and not (is_internal(queue.name) or _LEVEL.fullmatch(queue.name))

    def _delay_queues(self) -> tuple[str, ...]:
        """The queues of native delayed delivery, which workers with quorum queues create."""
        if self._levels_due.is_due:
            (first,) = self._reader.count(_LEVELS[:1])[0].values() or (None,)
            self._levels = _LEVELS if first is not None and first.exists else ()
            self._levels_due.done()
        return self._levels


def _delayed(found: Mapping[str, BrokerQueue]) -> float | None:
    # Nothing consumes these queues: their messages expire into the next level.
    levels = [queue for name, queue in found.items() if _LEVEL.fullmatch(name) and queue.exists]
    counts = [queue.ready for queue in levels]
    return sum(count for count in counts if count is not None) if levels and None not in counts else None
