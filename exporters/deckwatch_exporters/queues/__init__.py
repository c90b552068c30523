"""Job queues: one model for every broker, one module for each kind of broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, RootModel, Tag

from deckwatch.exporter import Exporter, FromEnvironment, KeyFigure, Scheduled, Secret, Target, Unreachable
from deckwatch_exporters.clients.rabbitmq.address import SCHEMES, is_amqp

from .arq import ArqBroker, ArqSettings
from .auto import AutoBroker, AutoSettings
from .auto_postgres import AutoPostgresBroker, AutoPostgresSettings
from .bullmq import BullmqSettings, bullmq_broker
from .celery import CeleryBroker, CelerySettings, redis_events
from .celery_events import CeleryEvents, celery_events
from .celery_rabbitmq import CeleryRabbitmqBroker, CeleryRabbitmqSettings, rabbitmq_events, rabbitmq_mailbox
from .celery_workers import CeleryWorkers, RedisMailbox, check_workers, new_identity
from .django_tasks import DjangoTasksSettings, django_tasks_broker
from .dramatiq import DramatiqBroker, DramatiqSettings
from .dramatiq_rabbitmq import DramatiqRabbitmqBroker, DramatiqRabbitmqSettings
from .huey import HueySettings, huey_broker
from .model import UP, QueueCollector
from .oban import ObanSettings, oban_broker
from .pgmq import PgmqSettings, pgmq_broker
from .procrastinate import ProcrastinateSettings, procrastinate_broker
from .rabbitmq import RabbitmqBroker, RabbitmqSettings
from .rabbitmq_reader import RabbitmqQueuesSettings
from .redis_list import RedisListBroker, RedisListSettings
from .redis_stream import RedisStreamBroker, RedisStreamSettings
from .rq import RqBroker, RqSettings
from .saq import SaqSettings, saq_broker
from .sidekiq import SidekiqBroker, SidekiqSettings
from .sql import SqlSettings, sql_broker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Context, Finding

    from .celery_workers import Mailbox
    from .model import Broker


def _is_rabbitmq(value: Any) -> bool:
    """Whether the settings of a library that has several brokers name a RabbitMQ."""
    if not isinstance(value, dict):
        return isinstance(value, RabbitmqQueuesSettings)
    url = value.get("url")
    text = url.get_secret_value() if isinstance(url, Secret) else url
    return "management_url" in value or (isinstance(text, str) and is_amqp(text))


def _is_postgres(value: Any) -> bool:
    return "dsn" in value if isinstance(value, dict) else isinstance(value, AutoPostgresSettings)


# A tag is the name of the class, which the messages about a wrong config rely on.
_Celery = Annotated[
    Annotated[CelerySettings, Tag("CelerySettings")] | Annotated[CeleryRabbitmqSettings, Tag("CeleryRabbitmqSettings")],
    Discriminator(lambda value: "CeleryRabbitmqSettings" if _is_rabbitmq(value) else "CelerySettings"),
]
_Auto = Annotated[
    Annotated[AutoSettings, Tag("AutoSettings")] | Annotated[AutoPostgresSettings, Tag("AutoPostgresSettings")],
    Discriminator(lambda value: "AutoPostgresSettings" if _is_postgres(value) else "AutoSettings"),
]
_Dramatiq = Annotated[
    Annotated[DramatiqSettings, Tag("DramatiqSettings")]
    | Annotated[DramatiqRabbitmqSettings, Tag("DramatiqRabbitmqSettings")],
    Discriminator(lambda value: "DramatiqRabbitmqSettings" if _is_rabbitmq(value) else "DramatiqSettings"),
]
_Settings = (
    ArqSettings
    | _Auto
    | BullmqSettings
    | _Celery
    | DjangoTasksSettings
    | _Dramatiq
    | HueySettings
    | ObanSettings
    | PgmqSettings
    | ProcrastinateSettings
    | RabbitmqSettings
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
        case ArqSettings() as arq:
            return ArqBroker(arq)
        case AutoSettings() as auto:
            return AutoBroker(auto)
        case AutoPostgresSettings() as auto_postgres:
            return AutoPostgresBroker(auto_postgres)
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
        case CeleryRabbitmqSettings() as celery_rabbitmq:
            return CeleryRabbitmqBroker(celery_rabbitmq)
        case DramatiqRabbitmqSettings() as dramatiq_rabbitmq:
            return DramatiqRabbitmqBroker(dramatiq_rabbitmq)
        case RabbitmqSettings() as rabbitmq:
            return RabbitmqBroker(rabbitmq)
        case ObanSettings() as oban:
            return oban_broker(oban)
        case PgmqSettings() as pgmq:
            return pgmq_broker(pgmq)
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
    collector = QueueCollector(settings.root.kind, broker)
    further = dict(_of_workers(settings, context))

    def close() -> None:
        for it in further.values():
            it.close()
        broker.close()

    # In separate groups, so that counts are reported while the broker is down.
    return Target({"queues": collector, **{name: Scheduled(it, group=name) for name, it in further.items()}}, close)


def _of_workers(settings: QueuesSettings, context: Context) -> Iterator[tuple[str, CeleryEvents | CeleryWorkers]]:
    """The collectors for what Celery's workers say, by name."""
    celery = settings.root
    if not isinstance(celery, CelerySettings | CeleryRabbitmqSettings):
        return
    if celery.events:
        source = redis_events(celery) if isinstance(celery, CelerySettings) else rabbitmq_events(celery)
        yield "celery_events", celery_events(source, celery, context)
    if celery.ask_workers:
        identity = new_identity()
        mailbox = _mailbox(celery, identity)
        yield "celery_workers", CeleryWorkers(mailbox, identity, celery.worker_timeout, celery.queues)


def _mailbox(celery: CelerySettings | CeleryRabbitmqSettings, identity: str) -> Mailbox:
    return RedisMailbox(celery, identity) if isinstance(celery, CelerySettings) else rabbitmq_mailbox(celery, identity)


def check_broker(settings: QueuesSettings) -> Iterator[Finding]:
    """Nothing where the broker cannot be reached: the collector says so."""
    broker = broker_of(settings)
    celery = settings.root
    try:
        yield from broker.check()
        if isinstance(celery, CelerySettings | CeleryRabbitmqSettings) and celery.ask_workers:
            yield from check_workers(_mailbox(celery, identity := new_identity()), identity)
    except Unreachable:
        return
    finally:
        broker.close()


EXPORTER = Exporter(
    name="queues",
    settings=QueuesSettings,
    open=open_broker,
    collectors=("celery_events", "celery_workers"),
    named=True,
    up=UP,
    from_environment=FromEnvironment(
        "CELERY_BROKER_URL",
        settings={"kind": "celery"},
        schemes=("redis://", "rediss://", "redis+socket://", "redis+sentinel://", *(f"{it}://" for it in SCHEMES)),
    ),
    key_figures=(
        KeyFigure("Waiting", "queue_length"),
        KeyFigure("Oldest", "queue_oldest_message_age_seconds", unit="seconds", use="max"),
        KeyFigure("Dead", "queue_dead"),
    ),
    runbook="QueueDown",
    check=check_broker,
)
