"""A connection that receives the messages published to the channels of a pattern."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Missing
from deckwatch_exporters.clients.stream import Deadline, LinkError

from .connection import Connection, ConnectionFailed
from .resp import ReplyError, pack

if TYPE_CHECKING:
    from .resp import Reply
    from .settings import ConnectionSettings

_IDLE = 10.0  # seconds of silence before the server must answer a PING


class Subscription:
    """An open subscription. Its methods raise ConnectionFailed; it cannot be used after that."""

    def __init__(self, settings: ConnectionSettings, pattern: str) -> None:
        """Connect and subscribe. Raises Missing if the ACL forbids it."""
        self._timeout = settings.timeout
        # In protocol 3, messages are pushes, which the parser ignores.
        connection = Connection(settings.model_copy(update={"protocol": 2}))
        self._where = str(connection.address)
        self._link = connection.open_link()
        self._heard = time.monotonic()
        self._pinged = False
        try:
            # Messages can follow the reply at once.
            reply, *self._early = self._subscribe(pattern)
        except (LinkError, TimeoutError) as failure:
            self.close()
            raise ConnectionFailed(f"{self._where}: {str(failure) or 'no answer to PSUBSCRIBE'}") from None
        if isinstance(reply, ReplyError):
            self.close()
            if reply.is_denied:
                user = settings.credentials[0] or "default"
                grant = f"&{pattern}" if " channel" in reply.message else "+psubscribe"
                raise Missing(f"{user} may not subscribe to {pattern}", f"ACL SETUSER {user} {grant}")
            raise ConnectionFailed(f"{self._where}: {reply.message}")

    def receive(self, seconds: float) -> list[bytes]:
        """The messages that arrive next; none after `seconds` of silence."""
        if self._early:
            early, self._early = self._early, []
            return _messages(early)
        try:
            replies = self._link.receive(Deadline(seconds))
        except TimeoutError:
            self._ping_if_idle()
            return []
        except LinkError as failure:
            raise ConnectionFailed(f"{self._where}: {failure}") from None
        self._heard, self._pinged = time.monotonic(), False
        return _messages(replies)

    def close(self) -> None:
        self._link.close()

    def _subscribe(self, pattern: str) -> list[Reply]:
        deadline = Deadline(self._timeout)
        self._link.send([pack("PSUBSCRIBE", pattern)], deadline)
        while not (replies := self._link.receive(deadline)):
            pass
        return replies

    def _ping_if_idle(self) -> None:
        silence = time.monotonic() - self._heard
        if self._pinged and silence > _IDLE + self._timeout:
            raise ConnectionFailed(f"{self._where}: no answer within {self._timeout:g} s")
        if not self._pinged and silence > _IDLE:
            try:
                self._link.send([pack("PING")], Deadline(self._timeout))
            except (LinkError, TimeoutError) as failure:
                raise ConnectionFailed(f"{self._where}: {str(failure) or 'cannot send'}") from None
            self._pinged = True


def _messages(replies: list[Reply]) -> list[bytes]:
    return [
        reply[3]
        for reply in replies
        if isinstance(reply, list) and len(reply) == 4 and reply[0] == b"pmessage" and isinstance(reply[3], bytes)
    ]
