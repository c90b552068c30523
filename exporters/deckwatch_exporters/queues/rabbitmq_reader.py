"""The queues of one virtual host of RabbitMQ: all of them over the management API, or those named over AMQP."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pydantic import Field, field_validator, model_validator

from deckwatch.exporter import Finding, Malformed, Missing, Refresh
from deckwatch_exporters.clients.rabbitmq.amqp import AmqpConnection, Counted
from deckwatch_exporters.clients.rabbitmq.management import CHECK, Management, NotFound
from deckwatch_exporters.clients.rabbitmq.session import ConnectionFailed
from deckwatch_exporters.clients.rabbitmq.settings import ConnectionSettings
from deckwatch_exporters.clients.stream import Deadline

from .ages import exact_age, unix_seconds
from .model import NOTHING_WAITS, Age, Queue
from .waiting import Counts, WaitingAges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_PAGE = 500  # the API's limit
_COLUMNS = ",".join(
    (
        "name,exclusive,auto_delete,arguments,effective_policy_definition,consumers,head_message_timestamp",
        "messages_ready,messages_unacknowledged",
        "message_stats.publish,message_stats.ack,message_stats.deliver_get",
        "message_stats.deliver_no_ack,message_stats.get_no_ack",
    )
)
_LIMITS = ("message-ttl", "max-length", "max-length-bytes")
_LONGEST_NAME = 255  # bytes, of an AMQP short string
_TOO_MANY = 1e18  # messages
_SHOWN = 20  # queues that `check` lists by name


class RabbitmqQueuesSettings(ConnectionSettings):
    """A virtual host of RabbitMQ, and the queues that are reported even while they do not exist there."""

    queues: tuple[str, ...] = Field(
        default=(), description="Names of queues. With management_url, beside those that are found."
    )
    discover: bool = Field(default=True, description="Whether to find queues with the management API.")

    @field_validator("queues")
    @classmethod
    def _names(cls, queues: tuple[str, ...]) -> tuple[str, ...]:
        if any(not name or len(name.encode()) > _LONGEST_NAME for name in queues):
            raise ValueError(f"names of 1 to {_LONGEST_NAME} bytes")
        return queues

    @model_validator(mode="after")
    def _some_queues(self) -> RabbitmqQueuesSettings:
        if not self.discover and not self.names:
            raise ValueError("queues, or discover: true")
        if self.management is None and not self.names:
            raise ValueError("queues (their names), or management_url to find them")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The queues that are always reported."""
        return self.queues


@dataclass
class BrokerQueue:
    """A queue, as the broker reports it. None is unknown."""

    name: str
    exists: bool = True
    ready: float | None = None
    unacknowledged: float | None = None
    consumers: float | None = None
    enqueued: float | None = None
    processed: float | None = None
    delivered: float | None = None
    head_published: float | None = None  # Unix seconds
    #: Whether it ends with its connection or its consumers, such as a queue for replies.
    is_temporary: bool = False
    #: Optional arguments, without `x-`, which take precedence over the policy.
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> float | None:
        """Messages that wait and messages in flight."""
        if self.ready is None or self.unacknowledged is None:
            return None
        return self.ready + self.unacknowledged


class RabbitmqReader:
    """Reads the queues of a target. Raises ConnectionFailed and Missing."""

    def __init__(self, settings: RabbitmqQueuesSettings) -> None:
        self._settings = settings
        self.vhost = settings.virtual_host
        amqp, management = settings.amqp, settings.management
        self.management = Management(settings, management) if management is not None else None
        self._amqp = AmqpConnection(settings, amqp) if amqp is not None and management is None else None
        self._statistics_due = Refresh(60.0)
        self._has_statistics = False
        self._ages = WaitingAges()
        self.deadline = Deadline(settings.timeout)  # of the requests of a run

    def read(self, further: Iterable[str] = ()) -> tuple[dict[str, BrokerQueue], list[Malformed]]:
        """The queues by name. `further` are queues to read over AMQP beside the configured ones."""
        if self.management is not None:
            found, problems = self._over_http(self.management)
        else:
            found, problems = self.count({*self._settings.names, *further})
        self._ages.keep(found)
        return found, problems

    def selects(self, queue: BrokerQueue) -> bool:
        """Whether the config wants the queue: all of them, or those named. A temporary one is different each time."""
        return queue.name in self._settings.names or (self._settings.discover and not queue.is_temporary)

    def count(self, names: Iterable[str]) -> tuple[dict[str, BrokerQueue], list[Malformed]]:
        """Queues over AMQP."""
        assert self._amqp is not None
        found: dict[str, BrokerQueue] = {}
        problems: list[Malformed] = []
        for name, counted in self._amqp.count(sorted(names)).items():
            if counted is None:
                found[name] = BrokerQueue(name, exists=False, ready=0.0, consumers=0.0)
            elif isinstance(counted, Counted):
                found[name] = BrokerQueue(name, ready=counted.ready, consumers=counted.consumers)
            else:
                problems.append(Malformed(f"queue {name}", counted.text))
        return found, problems

    def figures(self, queue: BrokerQueue) -> Queue:
        """The figures of a queue in the model of all brokers."""
        made = Queue(
            queue.name,
            length=queue.ready,
            in_flight=queue.unacknowledged,
            consumers=queue.consumers,
            enqueued=queue.enqueued,
            processed=queue.processed,
        )
        made.oldest = self._oldest(queue)
        return made

    def check(
        self, kind: str, reported: Callable[[Mapping[str, BrokerQueue]], Iterable[BrokerQueue]]
    ) -> Iterator[Finding]:
        """The finding that lists the queues of a target, of which `reported` selects those that it exports."""
        try:
            queues = sorted(reported(self.read()[0]), key=lambda queue: queue.name)
        except Missing:
            return  # the collector says so
        where = f"virtual host {self.vhost!r}"
        if not queues:
            yield Finding("missing", f"no {kind} queues in {where}", "check the virtual host, or list them in `queues`")
            return
        text = f"{kind} queues in {where}: {_listed([it.name for it in queues if it.exists]) or 'none'}"
        if absent := [it.name for it in queues if not it.exists]:
            text += f"; not there yet, reported as empty: {_listed(absent)}"
        if self.management is None:
            text += "; set management_url for messages in flight, counters and dead letters"
        yield Finding("ok", text)

    def close(self) -> None:
        if self._amqp is not None:
            self._amqp.close()
        if self.management is not None:
            self.management.close()

    def _oldest(self, queue: BrokerQueue) -> Age | None:
        if queue.ready is None:
            return None
        counts = Counts(
            queue.ready,
            queue.consumers,
            queue.delivered,
            queue.enqueued,
            drops=any(limit in queue.options for limit in _LIMITS),
        )
        bound = self._ages.age(queue.name, counts)
        if queue.ready == 0:
            return NOTHING_WAITS
        if queue.head_published is not None:
            return exact_age(queue.head_published, time.time())
        return bound

    def _over_http(self, management: Management) -> tuple[dict[str, BrokerQueue], list[Malformed]]:
        settings = self._settings
        deadline = self.deadline = Deadline(settings.timeout)
        if self._statistics_due.is_due:
            try:
                overview = management.get("overview", query="columns=disable_stats", deadline=deadline)
            except NotFound:
                raise ConnectionFailed(f"{management}: no management API there. {CHECK}") from None
            # Without the statistics, a queue without counters may have delivered any number of messages.
            self._has_statistics = isinstance(overview, dict) and overview.get("disable_stats") is False
            self._statistics_due.done()
        found: dict[str, BrokerQueue] = {}
        problems: list[Malformed] = []
        for item in self._items(management, deadline):
            queue = _parsed(item, self._has_statistics)
            if queue is None:
                problems.append(Malformed("GET /api/queues", str(item)))
            else:
                found[queue.name] = queue
        for name in settings.names:
            if name not in found:
                found[name] = BrokerQueue(name, exists=False, ready=0.0, unacknowledged=0.0, consumers=0.0)
        return found, problems

    def _items(self, management: Management, deadline: Deadline) -> Iterator[Any]:
        for page in itertools.count(1):
            query = urlencode({"page": page, "page_size": _PAGE, "columns": _COLUMNS}, safe=",")
            try:
                answer = management.get("queues", self.vhost, query=query, deadline=deadline)
            except NotFound:
                if page > 1:
                    return  # queues were deleted in the meantime
                raise ConnectionFailed(
                    f"{management}: no virtual host {self.vhost!r}. Check the virtual host in url, or vhost"
                ) from None
            items = answer.get("items") if isinstance(answer, dict) else None
            if not isinstance(items, list):
                raise ConnectionFailed(f"{management}: /api/queues is not a page of queues. {CHECK}")
            yield from items
            if page >= _whole(answer.get("page_count"), 1):
                return


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) else default


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < _TOO_MANY else None


def _parsed(item: Any, has_statistics: bool) -> BrokerQueue | None:
    if not isinstance(item, dict) or not isinstance(name := item.get("name"), str):
        return None
    policy, arguments = item.get("effective_policy_definition"), item.get("arguments")
    options = dict(policy) if isinstance(policy, dict) else {}  # without any, the API has an empty list
    if isinstance(arguments, dict):
        options |= {key.removeprefix("x-"): value for key, value in arguments.items()}
    queue = BrokerQueue(
        name,
        ready=_number(item.get("messages_ready")),
        unacknowledged=_number(item.get("messages_unacknowledged")),
        consumers=_number(item.get("consumers")),
        head_published=unix_seconds(item.get("head_message_timestamp")),
        is_temporary=bool(item.get("exclusive") or item.get("auto_delete") or name.startswith("amq.")),
        options=options,
    )
    counts = item.get("message_stats")
    if not isinstance(counts, dict):
        counts = {}
    if counts or (has_statistics and queue.ready is not None):
        queue.enqueued = _number(counts.get("publish", 0))
        queue.delivered = _number(counts.get("deliver_get", 0))
        # What consumers that do not acknowledge receive is done, as far as the broker knows.
        done = [_number(counts.get(key, 0)) for key in ("ack", "deliver_no_ack", "get_no_ack")]
        queue.processed = None if None in done else sum(count for count in done if count is not None)
    return queue
