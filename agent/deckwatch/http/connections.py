"""All connections, and which of them is closed first when there are too many."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from deckwatch.http.connection import Connection
    from deckwatch.http.limits import Limits


class Handshake(Protocol):
    """A TLS handshake in progress. `has_received` says whether the client has sent anything."""

    has_received: bool
    address: str

    def abort(self) -> None: ...


class Connections:
    """The open connections and the TLS handshakes in progress."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: set[Connection] = set()
        self.handshaking: dict[Connection, Handshake] = {}  # in the order in which they began

    def begin_handshake(self, connection: Connection, handshake: Handshake) -> None:
        """Count a handshake, and abort another one if there are too many.

        First one of a client that has sent nothing, then one of the address that has the most, then the oldest.
        """
        others = list(self.handshaking.values())
        self.handshaking[connection] = handshake
        if len(others) >= self.limits.handshakes:
            held = Counter(other.address for other in others)
            min(others, key=lambda other: (other.has_received, -held[other.address])).abort()

    def add(self, connection: Connection) -> None:
        self.handshaking.pop(connection, None)
        self.open.add(connection)
        if len(self.open) > self.limits.connections:
            self.make_room(connection)

    def discard(self, connection: Connection) -> None:
        self.handshaking.pop(connection, None)
        self.open.discard(connection)

    def make_room(self, newcomer: Connection | None = None) -> None:
        """Abort one connection: an idle one before one that is being answered, of the address that has the most.

        Never the newcomer: a client that fills all places with connections must not keep a scraper out.
        """
        others = [other for other in self.open if other is not newcomer and not other.transport.is_closing()]
        if others and (newcomer is None or len(others) >= self.limits.connections):
            held = Counter(other.address for other in others)
            min(others, key=lambda other: (other.is_answering, -held[other.address], other.since)).transport.abort()

    def sweep(self, now: float) -> None:
        """Abort what is idle, too slow with its request, or does not read its answer."""
        for connection in list(self.open):
            if connection.is_overdue(now):
                connection.transport.abort()
