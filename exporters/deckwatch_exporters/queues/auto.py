"""Whatever queue libraries use a Redis, found by their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from deckwatch.exporter import Finding, Malformed, Missing
from deckwatch_exporters.clients.redis.settings import ConnectionSettings

from .arq import ArqBroker, ArqSettings
from .bullmq import BullmqSettings, bullmq_broker
from .celery import CeleryBroker, CelerySettings
from .dramatiq import DramatiqBroker, DramatiqSettings
from .huey import HueySettings, huey_broker
from .model import Queue
from .redis_broker import RedisBroker, found_queues
from .rq import RqBroker, RqSettings
from .saq import SaqSettings, saq_broker
from .sidekiq import SidekiqBroker, SidekiqSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import Broker, Reported


class AutoSettings(ConnectionSettings):
    """A Redis, and any libraries. Give each its own kind where it has other settings than its default."""

    kind: Literal["auto"]


class AutoBroker:
    """Reads the queues of all libraries over one connection."""

    def __init__(self, settings: AutoSettings) -> None:
        shared = {name: getattr(settings, name) for name in ConnectionSettings.model_fields}
        redis = self._redis = RedisBroker(settings)
        self._brokers: dict[str, Broker] = {
            "arq": ArqBroker(ArqSettings(kind="arq", **shared), redis),
            "bullmq": bullmq_broker(BullmqSettings(kind="bullmq", **shared), redis),
            "celery": CeleryBroker(CelerySettings(kind="celery", **shared), redis),
            "dramatiq": DramatiqBroker(DramatiqSettings(kind="dramatiq", **shared), redis),
            "huey": huey_broker(HueySettings(kind="huey", **shared), redis),
            "rq": RqBroker(RqSettings(kind="rq", **shared), redis),
            "saq": saq_broker(SaqSettings(kind="saq", **shared), redis),
            "sidekiq": SidekiqBroker(SidekiqSettings(kind="sidekiq", **shared), redis),
        }

    def read(self) -> Iterator[Reported]:
        missing: list[Missing] = []
        for kind, broker in self._brokers.items():
            try:
                found = list(broker.read())
            except Missing as denied:
                missing.append(denied)
                yield Malformed(kind, str(denied))
                continue
            if not any(isinstance(item, Queue) for item in found):
                continue  # not used: what is left are totals of nothing
            for item in found:
                if isinstance(item, Queue):
                    yield from item.samples(kind)
                else:
                    yield item
        if len(missing) == len(self._brokers):
            raise missing[0]

    def check(self) -> Iterator[Finding]:
        used = False
        for kind, broker in self._brokers.items():
            try:
                names = [item.name for item in broker.read() if isinstance(item, Queue)]
            except Missing as denied:
                yield Finding("missing", f"{kind}: {str(denied).removesuffix(f'; {denied.remedy}')}", denied.remedy)
                continue
            if names:
                used = True
                yield found_queues(names, kind, self._redis.where)
        if not used:
            yield Finding(
                "missing",
                f"no queues of {', '.join(self._brokers)} in {self._redis.where}",
                "check the database number in url, or set kind",
            )

    def close(self) -> None:
        self._redis.close()
