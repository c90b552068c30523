"""Dramatiq on RabbitMQ: a queue `Q` has `Q.DQ` with delayed and `Q.XQ` with dead messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .rabbitmq_reader import BrokerQueue, RabbitmqQueuesSettings, RabbitmqReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Finding

    from .model import Reported

_DELAYED, _DEAD = ".DQ", ".XQ"


class DramatiqRabbitmqSettings(RabbitmqQueuesSettings):
    """Dramatiq's RabbitMQ broker."""

    kind: Literal["dramatiq"]

    @property
    def names(self) -> tuple[str, ...]:
        return self.queues or (() if self.management else ("default",))


class DramatiqRabbitmqBroker:
    def __init__(self, settings: DramatiqRabbitmqSettings) -> None:
        self._configured = settings.names
        self._reader = RabbitmqReader(settings)

    def read(self) -> Iterator[Reported]:
        further = [name + suffix for name in self._configured for suffix in (_DELAYED, _DEAD)]
        found, problems = self._reader.read(further)
        yield from problems
        for name in self._names(found):
            queue = found.get(name)
            if queue is None:
                continue  # refused
            figures = self._reader.figures(queue)
            figures.delayed = _delayed(found.get(name + _DELAYED), queue)
            figures.dead = _dead(found.get(name + _DEAD), queue)
            yield figures

    def check(self) -> Iterator[Finding]:
        yield from self._reader.check(
            "dramatiq", lambda found: [found[name] for name in self._names(found) if name in found]
        )

    def close(self) -> None:
        self._reader.close()

    def _names(self, found: Mapping[str, BrokerQueue]) -> list[str]:
        mine = {
            name
            for name, queue in found.items()
            if self._reader.selects(queue)
            and queue.options.get("dead-letter-routing-key") == name + _DEAD
            and not name.endswith(_DELAYED)
        }
        return sorted({*self._configured, *mine})


def _delayed(queue: BrokerQueue | None, main: BrokerQueue) -> float | None:
    """Messages for later. Workers fetch them and hold them until they are due."""
    if queue is None:
        return 0.0 if not main.exists else None
    if queue.total is not None:
        return queue.total
    return queue.ready if queue.consumers == 0 else None


def _dead(queue: BrokerQueue | None, main: BrokerQueue) -> float | None:
    if queue is None:
        return 0.0 if not main.exists else None
    return queue.total if queue.total is not None else queue.ready
