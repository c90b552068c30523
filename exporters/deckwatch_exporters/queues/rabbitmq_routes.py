"""Where RabbitMQ routes the dead letters of queues. https://www.rabbitmq.com/docs/dlx"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Malformed, Refresh
from deckwatch_exporters.clients.rabbitmq.management import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch_exporters.clients.rabbitmq.management import Management
    from deckwatch_exporters.clients.stream import Deadline

    from .model import Queue
    from .rabbitmq_reader import BrokerQueue

_EXCHANGE, _KEY, _TTL = "dead-letter-exchange", "dead-letter-routing-key", "message-ttl"


class DeadLetters:
    """The dead letters of the queues of a virtual host. Exchanges and bindings are read every minute."""

    def __init__(self, management: Management, vhost: str) -> None:
        self._management = management
        self._vhost = vhost
        self._types: dict[str, str] = {}  # by exchange
        self._bindings: dict[str, list[dict[str, Any]]] = {}  # by exchange
        self._missing: set[str] = set()  # exchanges that queues name and that do not exist
        self._due = Refresh(60.0)

    def add_to(
        self, made: Mapping[str, Queue], found: Mapping[str, BrokerQueue], deadline: Deadline
    ) -> Iterator[Malformed]:
        """Set `dead` and `delayed`. Raises ConnectionFailed and Missing.

        Messages in a dead-letter queue count for the queue that they come from. If several queues share it, they count
        for the dead-letter queue itself. A dead-letter queue is a queue of retries if its messages expire back into the
        queue that they come from: they are delayed.
        """
        exchanges = {name: str(found[name].options.get(_EXCHANGE, "")) for name in made}
        wanted = set(exchanges.values()) - {""}  # the default exchange needs no bindings
        if wanted and (self._due.is_due or wanted - self._types.keys() - self._missing):
            self._read(deadline)
            self._missing = wanted - self._types.keys()
            self._due.done()
        targets: dict[str, set[str]] = {}
        for name, exchange in exchanges.items():
            if exchange in self._missing:
                text = f"there is no exchange {exchange!r}, so that RabbitMQ drops them. Create it"
                yield Malformed(f"the dead letters of queue {name}", text)
            targets[name] = self._targets(found[name]) & found.keys() - {name}
        sources = Counter(target for each in targets.values() for target in each)
        for name, dead_letter_queues in targets.items():
            for target in dead_letter_queues:
                count = found[target].total
                if _holds_retries(found[target], name, targets):
                    _add(made, name, "delayed", count)
                elif _holds_retries(found[name], target, targets):
                    continue  # what expires there is tried again
                elif sources[target] == 1:
                    _add(made, name, "dead", count)
                elif (own := made.get(target)) is not None:
                    own.dead = count

    def _read(self, deadline: Deadline) -> None:
        columns = "columns=source,destination,destination_type,routing_key"
        exchanges = self._list("exchanges", "columns=name,type", deadline)
        bindings = self._list("bindings", columns, deadline)
        self._types = {str(it.get("name")): str(it.get("type")) for it in exchanges}
        self._bindings = {}
        for binding in bindings:
            self._bindings.setdefault(str(binding.get("source")), []).append(binding)

    def _list(self, kind: str, query: str, deadline: Deadline) -> list[dict[str, Any]]:
        try:
            answer = self._management.get(kind, self._vhost, query=query, deadline=deadline)
        except NotFound:
            return []  # the virtual host was deleted in the meantime
        return [it for it in answer if isinstance(it, dict)] if isinstance(answer, list) else []

    def _targets(self, queue: BrokerQueue) -> set[str]:
        """The queues to which the dead letters of a queue go, as far as that is known."""
        exchange, key = queue.options.get(_EXCHANGE), queue.options.get(_KEY)
        if not isinstance(exchange, str):
            return set()
        if not exchange:
            return {str(key)} if key else set()
        kind, bindings = self._types.get(exchange, ""), self._bindings.get(exchange, [])
        if any(it.get("destination_type") != "queue" for it in bindings):
            return set()
        bound = {str(it.get("destination")) for it in bindings}
        if kind == "fanout" or len(bound) == 1:
            return bound
        if key is None or kind not in ("direct", "topic"):
            return set()  # it depends on the message
        return {
            str(it.get("destination")) for it in bindings if _matches(kind, str(it.get("routing_key", "")), str(key))
        }


def _holds_retries(queue: BrokerQueue, origin: str, targets: Mapping[str, set[str]]) -> bool:
    """Whether the queue gets dead letters of `origin`, and they expire back to it."""
    is_loop = targets.get(queue.name) == {origin} and queue.name in targets.get(origin, ())
    return is_loop and queue.consumers == 0 and _TTL in queue.options


def _add(made: Mapping[str, Queue], name: str, figure: str, count: float | None) -> None:
    queue = made.get(name)
    if queue is not None and count is not None:
        setattr(queue, figure, (getattr(queue, figure) or 0.0) + count)


def _matches(kind: str, pattern: str, key: str) -> bool:
    """Whether a binding key matches a routing key: `*` is one word of a topic, `#` any number."""
    if kind == "direct":
        return pattern == key
    expression = ""
    for position, word in enumerate(pattern.split(".")):
        separator = r"\." if position else ""
        if word == "#":
            expression += rf"(?:{separator}[^.]*)*" if position else r"(?:[^.]*(?:\.[^.]*)*)?"
        else:
            expression += separator + (r"[^.]*" if word == "*" else re.escape(word))
    return re.fullmatch(expression, key) is not None
