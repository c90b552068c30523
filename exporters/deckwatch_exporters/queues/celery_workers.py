"""How many workers consume each queue of Celery, and how many processes these have, under celery-exporter's names.

The workers are asked over Celery's remote control. A run reads the replies to the questions of earlier runs and waits
for none. https://docs.celeryq.dev/en/stable/userguide/workers.html#inspecting-workers
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from deckwatch.exporter import Finding, Gauge, Malformed, Missing, Unreachable
from deckwatch_exporters.clients.redis.patterns import escape_pattern
from deckwatch_exporters.clients.redis.resp import ReplyError, pack

from .celery_events_workers import MAX_WORKERS
from .message import fields_of, kombu_body
from .redis_broker import RedisBroker, forbids_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deckwatch.exporter import Sample

    from .celery import CelerySettings

WORKERS = Gauge("celery_active_worker_count", "Workers that consume the queue.", ["queue_name"])
PROCESSES = Gauge("celery_active_process_count", "Processes of the workers that consume the queue.", ["queue_name"])

MAILBOX = "celery"  # Celery's default of control_exchange
_IDENTITY = "deckwatch"  # of all agents
_COMMANDS = ("active_queues", "stats")
_ASKS = 4  # times within the timeout of a worker
_MOST_REPLIES = 10_000
_MOST_QUEUES = 1000
_CHECK_TIMEOUT = 3.0  # seconds; `celery inspect` waits for one
_CHECK_PERIOD = 0.1


class Mailbox(Protocol):
    """Sends messages to all workers. Raises Unreachable and Missing."""

    def send(self, messages: Sequence[bytes]) -> list[bytes]:
        """Send JSON messages, and return the bodies of the replies to those that were sent before."""
        ...

    def close(self) -> None: ...


@dataclass
class _Worker:
    heard: float  # on the stopwatch
    queues: tuple[str, ...] = ()
    processes: int = 0


@dataclass
class CeleryWorkers:
    """The collector. `identity` is where replies go; `timeout` are seconds until a silent worker is forgotten."""

    mailbox: Mailbox
    identity: str
    timeout: float
    configured: tuple[str, ...] = ()
    stopwatch: Callable[[], float] = time.monotonic
    _workers: dict[str, _Worker] = field(default_factory=dict)
    _queues: set[str] = field(default_factory=set)  # with workers now or before
    _asked: float | None = None
    _first_asked: float | None = None

    def collect(self) -> Iterator[Sample | Malformed]:
        now = self.stopwatch()
        is_due = self._asked is None or now - self._asked >= self.timeout / _ASKS
        for reply in self.mailbox.send([_question(it, self.identity) for it in _COMMANDS] if is_due else []):
            if not self._read(reply, now):
                yield Malformed("a reply of a Celery worker", reply[:100].decode(errors="replace"))
        if is_due:
            self._asked = now
            self._first_asked = now if self._first_asked is None else self._first_asked
        self._workers = {name: it for name, it in self._workers.items() if now - it.heard < self.timeout}
        yield from self._samples(now)

    def close(self) -> None:
        self.mailbox.close()

    def _samples(self, now: float) -> Iterator[Sample]:
        workers: Counter[str] = Counter()
        processes: Counter[str] = Counter()
        for worker in self._workers.values():
            for queue in worker.queues:
                workers[queue] += 1
                processes[queue] += worker.processes
        self._queues.update(list(workers)[: _MOST_QUEUES - len(self._queues)])
        # Before that, it is unknown whether there are workers.
        knows_all = self._first_asked is not None and now - self._first_asked >= self.timeout
        for queue in sorted({*self._queues, *(self.configured if knows_all else ())}):
            yield WORKERS(workers[queue], queue_name=queue)
            yield PROCESSES(processes[queue], queue_name=queue)

    def _read(self, reply: bytes, now: float) -> bool:
        """Remember what a worker says: its queues are a list, its statistics a mapping."""
        try:
            ((name, found),) = fields_of(reply).items()
            worker = self._workers.get(name)
            if worker is None:
                if len(self._workers) >= MAX_WORKERS:
                    return True
                worker = _Worker(now)
            if isinstance(found, list):
                worker.queues = tuple(queue["name"] for queue in found if isinstance(queue["name"], str))
            elif "pool" in found:
                processes = found["pool"].get("processes")
                worker.processes = len(processes) if isinstance(processes, list) else 0
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        worker.heard = now
        self._workers[name] = worker
        return True


def check_workers(mailbox: Mailbox, identity: str, timeout: float = _CHECK_TIMEOUT) -> Iterator[Finding]:
    """A finding if a right is missing, or if no worker answers within `timeout` seconds. Raises Unreachable."""
    deadline = time.monotonic() + timeout
    questions = [_question("ping", identity)]
    try:
        while not mailbox.send(questions):
            if time.monotonic() > deadline:
                remedy = "start a worker with remote control, or set ask_workers: false"
                yield Finding("missing", f"no Celery worker answered within {timeout:g} s", remedy)
                return
            questions = []
            time.sleep(_CHECK_PERIOD)
    except Missing as missing:
        yield Finding("missing", missing.what, missing.remedy)
    finally:
        mailbox.close()


def _question(command: str, identity: str) -> bytes:
    question: dict[str, Any] = {
        "method": command,
        "arguments": {},
        "destination": None,
        "pattern": None,
        "matcher": None,
        "ticket": str(uuid.uuid4()),
        "reply_to": {"exchange": f"reply.{MAILBOX}.pidbox", "routing_key": identity},
    }
    return json.dumps(question).encode()


def new_identity() -> str:
    return f"{_IDENTITY}.{secrets.token_hex(8)}"


class RedisMailbox:
    """The mailbox on a Redis: a channel for questions, and a list for replies. kombu/transport/redis.py."""

    def __init__(self, settings: CelerySettings, identity: str) -> None:
        self._redis = RedisBroker(settings)
        self._prefix = prefix = settings.global_keyprefix
        self._channel = f"{prefix}/{settings.address.db}.{MAILBOX}.pidbox"
        queue = f"{identity}.reply.{MAILBOX}.pidbox"
        self._list = prefix + queue
        self._bindings = f"{prefix}_kombu.binding.reply.{MAILBOX}.pidbox"
        self._binding = settings.sep.join((identity, "", queue))

    def send(self, messages: Sequence[bytes]) -> list[bytes]:
        commands = [pack("RPOP", self._list, _MOST_REPLIES)]
        if messages:
            commands.append(pack("SADD", self._bindings, self._binding))
            commands += [pack("PUBLISH", self._channel, _envelope(message)) for message in messages]
        replies = self._redis.ask(commands)
        if denied := [reply for reply in replies if isinstance(reply, ReplyError) and reply.is_denied]:
            why = f"{self._redis.user} may not ask the workers of Celery"
            raise Missing(why, f"ACL SETUSER {self._redis.user} {self._grant(denied)}")
        found = replies[0] if isinstance(replies[0], list) else []
        return [body for it in found if isinstance(it, bytes) and (body := kombu_body(it)) is not None]

    def _grant(self, denied: Sequence[ReplyError]) -> str:
        """What the ACL lacks: commands, then keys, then the channel. A rule that adds nothing would be an error."""
        if any(map(forbids_command, denied)):
            return "+rpop +sadd +srem +del +publish"
        if any(reply.is_key_denied for reply in denied):
            lists = f"{escape_pattern(self._prefix)}{_IDENTITY}.*.reply.{MAILBOX}.pidbox"
            return f"~{lists} ~{escape_pattern(self._bindings)}"
        return f"&{escape_pattern(self._channel)}"

    def close(self) -> None:
        with contextlib.suppress(Unreachable, Missing):
            self._redis.ask([pack("SREM", self._bindings, self._binding), pack("DEL", self._list)])
        self._redis.close()


def _envelope(message: bytes) -> bytes:
    """A message as kombu's virtual transports have it: kombu/transport/virtual/base.py."""
    properties = {
        "delivery_mode": 1,
        "delivery_info": {"exchange": f"{MAILBOX}.pidbox", "routing_key": ""},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    content = {"content-type": "application/json", "content-encoding": "utf-8", "headers": {}}
    body = base64.b64encode(message).decode()
    return json.dumps({"body": body, **content, "properties": properties}).encode()
