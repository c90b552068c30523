"""Queues over AMQP: how many messages wait in them, and how many consumers they have.

Heartbeats are off, because nothing would send them between two runs; a deadline for each exchange finds a hung server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deckwatch_exporters.clients.stream import Deadline, LinkClosed, LinkError

from .session import CHANNEL, FAILURES, NOT_FOUND, ServerClosed, Session, explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .address import Address
    from .settings import ConnectionSettings

_AT_ONCE = 500  # declarations in one go
_CLOSING = 1.0  # seconds that an orderly close may take


class Counted(NamedTuple):
    """A queue, as a passive declaration reports it."""

    ready: int
    consumers: int


class Refused(NamedTuple):
    """Why the server does not count a queue."""

    text: str


class AmqpConnection:
    """The connection of one target: opened when it is first needed, kept open, reopened when it breaks."""

    def __init__(self, settings: ConnectionSettings, address: Address) -> None:
        self._settings = settings
        self._address = address
        self._session: _CountingSession | None = None
        self._refused: set[str] = set()  # queues that the server did not count last time

    def count(self, queues: Sequence[str]) -> dict[str, Counted | Refused | None]:
        """Count each queue; None for a queue that does not exist. Raises ConnectionFailed, Missing."""
        try:
            found = self._count(queues, Deadline(self._settings.timeout))
        except FAILURES as failure:
            self._drop()
            raise explained(failure, self._settings, self._address) from None
        self._refused -= found.keys()
        self._refused |= {queue for queue, counted in found.items() if not isinstance(counted, Counted)}
        return found

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end(Deadline(_CLOSING))

    def _count(self, queues: Sequence[str], deadline: Deadline) -> dict[str, Counted | Refused | None]:
        # A refusal closes the channel, and the server drops what follows. So these come last, one by one.
        doubtful = [queue for queue in queues if queue in self._refused]
        certain = [queue for queue in queues if queue not in self._refused]
        if self._session is not None:
            try:
                return self._session.count(certain, doubtful, deadline)
            except (LinkClosed, ServerClosed):
                # The server may have closed it long ago and be up now.
                self._drop()
        self._session = _CountingSession.open(self._settings, self._address, deadline)
        return self._session.count(certain, doubtful, deadline)

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.drop()


class _CountingSession(Session):
    """A session that counts queues."""

    _has_channel = False

    def count(
        self, certain: Sequence[str], doubtful: Sequence[str], deadline: Deadline
    ) -> dict[str, Counted | Refused | None]:
        found: dict[str, Counted | Refused | None] = {}
        while len(found) < len(certain):
            self._declare(certain[len(found) : len(found) + _AT_ONCE], found, deadline)
        for queue in doubtful:
            self._declare([queue], found, deadline)
        return found

    def _declare(self, queues: Sequence[str], found: dict[str, Counted | Refused | None], deadline: Deadline) -> None:
        """Count queues up to the first that the server refuses, which closes the channel."""
        commands = self.commands
        if not self._has_channel:
            self.open_channel(deadline)
            self._has_channel = True
        self.send(CHANNEL, *(commands.Queue.Declare(queue=queue, passive=True) for queue in queues), deadline=deadline)
        for queue in queues:
            answer = self.method(deadline)
            if answer.name == "Channel.Close":
                self.send(CHANNEL, commands.Channel.CloseOk(), deadline=deadline)
                self._has_channel = False
                found[queue] = None if answer.reply_code == NOT_FOUND else Refused(str(answer.reply_text))
                return
            if answer.name != "Queue.DeclareOk":
                raise LinkError(f"unexpected {answer.name} from the server")
            found[queue] = Counted(int(answer.message_count), int(answer.consumer_count))
