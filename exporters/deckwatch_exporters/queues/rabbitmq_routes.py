"""Where RabbitMQ routes the dead letters of queues. https://www.rabbitmq.com/docs/dlx"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Malformed, Missing, Refresh
from deckwatch_exporters.clients.rabbitmq.management import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch_exporters.clients.rabbitmq.management import Management

    from .model import Queue
    from .rabbitmq_reader import BrokerQueue

_EXCHANGE, _KEY, _TTL = "dead-letter-exchange", "dead-letter-routing-key", "message-ttl"


class DeadLetters:
    """The dead letters of queues. Bindings are read every minute."""

    def __init__(self, management: Management, vhost: str) -> None:
        self._management = management
        self._vhost = vhost
        self._exchanges: dict[str, tuple[str, list[dict[str, Any]]]] = {}
        self._due = Refresh(60.0)

    def add_to(self, made: Mapping[str, Queue], found: Mapping[str, BrokerQueue]) -> Iterator[Malformed]:
        """Set `dead` and `delayed`.

        Messages in a dead-letter queue count for the queue that they come from. If several queues share it, they count
        for the dead-letter queue itself. A dead-letter queue whose messages expire back into the queue that they come
        from holds retries: they are delayed.
        """
        if self._due.is_due:
            self._exchanges.clear()
            self._due.done()
        targets: dict[str, set[str]] = {}
        for name in made:
            try:
                targets[name] = self._targets(found[name]) & found.keys() - {name}
            except (NotFound, Missing) as failure:
                yield Malformed(f"the dead-letter exchange of queue {name}", str(failure))
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

    def _targets(self, queue: BrokerQueue) -> set[str]:
        """The queues to which the dead letters of a queue go, as far as that is known."""
        exchange, key = queue.options.get(_EXCHANGE), queue.options.get(_KEY)
        if not isinstance(exchange, str):
            return set()
        if not exchange:
            return {str(key)} if key else set()
        kind, bindings = self._exchange(exchange)
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

    def _exchange(self, name: str) -> tuple[str, list[dict[str, Any]]]:
        """The type of an exchange and its bindings. Raises NotFound."""
        if name not in self._exchanges:
            try:
                exchange = self._management.get("exchanges", self._vhost, name, query="columns=type")
                bindings = self._management.get("exchanges", self._vhost, name, "bindings", "source")
            except NotFound:
                raise NotFound(f"no exchange {name!r}: rejected and expired messages are lost") from None
            kind = exchange.get("type") if isinstance(exchange, dict) else ""
            known = [it for it in bindings if isinstance(it, dict)] if isinstance(bindings, list) else []
            self._exchanges[name] = (str(kind), known)
        return self._exchanges[name]


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
