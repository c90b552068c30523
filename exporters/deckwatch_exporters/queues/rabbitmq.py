"""Queues of any application in RabbitMQ, under the names of its Prometheus plugin too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from deckwatch.exporter import Gauge

from .rabbitmq_reader import RabbitmqQueuesSettings, RabbitmqReader
from .rabbitmq_routes import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Finding, Sample

    from .model import Reported
    from .rabbitmq_reader import BrokerQueue

_LABELS = ("vhost", "queue")
READY = Gauge("rabbitmq_queue_messages_ready", "Messages that wait in the queue.", _LABELS)
UNACKED = Gauge("rabbitmq_queue_messages_unacked", "Messages delivered to consumers and not acknowledged yet.", _LABELS)
MESSAGES = Gauge("rabbitmq_queue_messages", "Messages of the queue, waiting and unacknowledged.", _LABELS)
CONSUMERS = Gauge("rabbitmq_queue_consumers", "Consumers of the queue.", _LABELS)


class RabbitmqSettings(RabbitmqQueuesSettings):
    """Queues in RabbitMQ."""

    kind: Literal["rabbitmq"]


class RabbitmqBroker:
    def __init__(self, settings: RabbitmqSettings) -> None:
        self._reader = RabbitmqReader(settings)
        management = self._reader.management
        self._dead_letters = DeadLetters(management, self._reader.vhost) if management is not None else None

    def read(self) -> Iterator[Reported]:
        found, problems = self._reader.read()
        yield from problems
        made = {name: self._reader.figures(queue) for name, queue in found.items() if self._reader.selects(queue)}
        if self._dead_letters is not None:
            yield from self._dead_letters.add_to(made, found, self._reader.deadline)
        for name, figures in made.items():
            yield figures
            yield from self._plugin_names(found[name])

    def check(self) -> Iterator[Finding]:
        yield from self._reader.check("rabbitmq", lambda found: filter(self._reader.selects, found.values()))

    def close(self) -> None:
        self._reader.close()

    def _plugin_names(self, queue: BrokerQueue) -> Iterator[Sample]:
        if not queue.exists:
            return
        values = {READY: queue.ready, UNACKED: queue.unacknowledged, MESSAGES: queue.total, CONSUMERS: queue.consumers}
        for metric, value in values.items():
            if value is not None:
                yield metric(value, vhost=self._reader.vhost, queue=queue.name)
