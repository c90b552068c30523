"""The set of open connections, and which one to close when there are too many."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.http.connection import Connection
    from deckwatch.http.limits import Limits
    from deckwatch.http.rejections import Rejections


class Handshake(Protocol):
    """A TLS handshake in progress. `has_received` is whether the client has sent any data."""

    has_received: bool
    address: str

    def abort(self) -> None: ...


class Connections:
    """The open connections and the TLS handshakes in progress."""

    def __init__(self, limits: Limits, rejections: Rejections) -> None:
        self.limits = limits
        self.rejections = rejections
        self.open: set[Connection] = set()
        self.handshaking: dict[Connection, Handshake] = {}  # oldest first
        self.on_activity: Callable[[], None] = lambda: None  # called when a client has sent something

    def begin_handshake(self, connection: Connection, handshake: Handshake) -> None:
        """Register a handshake, and abort another one if there are too many.

        Clients that have sent nothing are aborted first, then those of the address with the most handshakes, then the
        oldest.
        """
        others = list(self.handshaking.values())
        self.handshaking[connection] = handshake
        if len(others) >= self.limits.handshakes:
            held = Counter(other.address for other in others)
            self.rejections.count("handshake_limit")
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
        """Abort one connection: an idle one if possible, of the address with the most connections.

        The newcomer is never aborted: a client that uses up all connections must not lock out a scraper.
        """
        others = [other for other in self.open if other is not newcomer and not other.transport.is_closing()]
        if others and (newcomer is None or len(others) >= self.limits.connections):
            held = Counter(other.address for other in others)
            self.rejections.count("connection_limit")
            min(others, key=lambda other: (other.is_responding, -held[other.address], other.since)).transport.abort()

    def note_activity(self) -> None:
        self.on_activity()

    def sweep(self, now: float) -> float | None:
        """Abort connections that are idle, send a request too slowly or do not read the response.

        Returns the seconds until the next timeout is due unless a client sends something: 0 while responses are read,
        None without connections.
        """
        for connection in list(self.open):
            if connection.is_overdue(now):
                if connection.is_responding:
                    self.rejections.count("slow_reader")
                elif connection.has_begun_request:
                    self.rejections.count("slow_request")
                connection.transport.abort()
        return min((connection.quiet_for(now) for connection in self.open), default=None)
