"""Job queues: one model for every broker, one module for each kind of broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, RootModel

from deckwatch.exporter import Exporter, FromEnvironment, KeyFigure, Target, Unreachable

from .bullmq import BullmqSettings, bullmq_broker
from .celery import CeleryBroker, CelerySettings
from .django_tasks import DjangoTasksSettings, django_tasks_broker
from .dramatiq import DramatiqBroker, DramatiqSettings
from .huey import HueySettings, huey_broker
from .model import UP, QueueCollector
from .procrastinate import ProcrastinateSettings, procrastinate_broker
from .redis_list import RedisListBroker, RedisListSettings
from .redis_stream import RedisStreamBroker, RedisStreamSettings
from .rq import RqBroker, RqSettings
from .saq import SaqSettings, saq_broker
from .sidekiq import SidekiqBroker, SidekiqSettings
from .sql import SqlSettings, sql_broker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Context, Finding

    from .model import Broker


_Settings = (
    BullmqSettings
    | CelerySettings
    | DjangoTasksSettings
    | DramatiqSettings
    | HueySettings
    | ProcrastinateSettings
    | RedisListSettings
    | RedisStreamSettings
    | RqSettings
    | SaqSettings
    | SidekiqSettings
    | SqlSettings
)


class QueuesSettings(RootModel[Annotated[_Settings, Field(discriminator="kind")]]):
    """The queues of one broker; `kind` says what uses it."""


def broker_of(settings: QueuesSettings, target: str = "") -> Broker:
    match settings.root:
        case BullmqSettings() as bullmq:
            return bullmq_broker(bullmq)
        case DjangoTasksSettings() as django_tasks:
            return django_tasks_broker(django_tasks)
        case DramatiqSettings() as dramatiq:
            return DramatiqBroker(dramatiq)
        case HueySettings() as huey:
            return huey_broker(huey)
        case SaqSettings() as saq:
            return saq_broker(saq)
        case SidekiqSettings() as sidekiq:
            return SidekiqBroker(sidekiq)
        case CelerySettings() as celery:
            return CeleryBroker(celery)
        case ProcrastinateSettings() as procrastinate:
            return procrastinate_broker(procrastinate)
        case RedisListSettings() as lists:
            return RedisListBroker(lists)
        case RedisStreamSettings() as streams:
            return RedisStreamBroker(streams)
        case RqSettings() as rq:
            return RqBroker(rq)
        case SqlSettings() as sql:
            return sql_broker(sql, target)


def open_broker(settings: QueuesSettings, context: Context) -> Target:
    broker = broker_of(settings, context.target)
    return Target({"queues": QueueCollector(settings.root.kind, broker)}, broker.close)


def check_broker(settings: QueuesSettings) -> Iterator[Finding]:
    """Nothing where the broker cannot be reached: the collector says so."""
    broker = broker_of(settings)
    try:
        yield from broker.check()
    except Unreachable:
        return
    finally:
        broker.close()


EXPORTER = Exporter(
    name="queues",
    settings=QueuesSettings,
    open=open_broker,
    named=True,
    up=UP,
    from_environment=FromEnvironment(
        "CELERY_BROKER_URL",
        settings={"kind": "celery"},
        schemes=("redis://", "rediss://", "redis+socket://", "redis+sentinel://"),
    ),
    key_figures=(
        KeyFigure("Waiting", "queue_length"),
        KeyFigure("Oldest", "queue_oldest_message_age_seconds", unit="seconds", use="max"),
        KeyFigure("Dead", "queue_dead"),
    ),
    runbook="QueueDown",
    check=check_broker,
)
