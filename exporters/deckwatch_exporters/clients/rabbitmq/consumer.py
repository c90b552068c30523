"""Receives what an exchange gets, over a temporary queue."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Missing
from deckwatch_exporters.clients.stream import Deadline, LinkError

from .session import ACCESS_REFUSED, CHANNEL, FAILURES, METHOD, NOT_FOUND, ServerClosed, Session, explained, grant_vhost

if TYPE_CHECKING:
    from .address import Address
    from .settings import ConnectionSettings

_HEARTBEAT = 10  # seconds; a server that says nothing for twice as long hangs
_CLOSING = 1.0  # seconds that an orderly close may take
_CONTENT_HEADER = 2  # the types of the frames of a message after Basic.Deliver
_CONTENT_BODY = 3
_PAYLOAD = slice(7, -1)  # of a frame
_DELIVER = b"\x00\x3c\x00\x3c"  # class and method of Basic.Deliver
_SIZE = slice(11, 19)  # of the message, in a frame of type _CONTENT_HEADER
_LARGEST_MESSAGE = 16 * 1024 * 1024
# While Deckwatch does not read, the server drops the oldest messages beyond these limits.
_QUEUE_LIMITS = {"x-message-ttl": 60_000, "x-max-length": 100_000}


class Consumer:
    """A queue that gets all messages of a topic exchange. It is of no use once `receive()` has raised ConnectionFailed.

    The queue ends with the connection. The exchange is declared as kombu does if it does not exist.
    """

    def __init__(self, settings: ConnectionSettings, address: Address, exchange: str) -> None:
        """Connect and consume. Raises Missing without the rights."""
        self._settings, self._address = settings, address
        deadline = Deadline(settings.timeout)
        try:
            self._session = Session.open(settings, address, deadline, _HEARTBEAT)
        except FAILURES as failure:
            raise explained(failure, settings, address) from None
        self._heard = self._sent = time.monotonic()
        self._is_broken = False
        self._due = 0  # bytes of the message that is being received
        self._body: list[bytes] = []
        try:
            self._consume(exchange, deadline)
        except FAILURES as failure:
            self._session.drop()
            if isinstance(failure, ServerClosed) and failure.code == ACCESS_REFUSED:
                user, vhost = settings.credentials_at(address)[0], settings.virtual_host
                grant = grant_vhost(vhost, user, f"^{exchange}")
                raise Missing(f"{user} may not consume from {exchange} in virtual host {vhost!r}", grant) from None
            raise explained(failure, settings, address) from None

    def receive(self, seconds: float) -> list[bytes]:
        """The bodies of the messages that arrive next; none after `seconds` of silence."""
        try:
            return self._receive(seconds)
        except FAILURES as failure:
            self._is_broken = True
            raise explained(failure, self._settings, self._address) from None

    def close(self) -> None:
        if self._is_broken:
            self._session.drop()
        else:
            self._session.end(Deadline(_CLOSING))

    def _consume(self, exchange: str, deadline: Deadline) -> None:
        commands, session = self._session.commands, self._session
        session.open_channel(deadline)
        try:
            session.call(commands.Exchange.Declare(exchange=exchange, passive=True), deadline)
        except ServerClosed as closed:
            if closed.code != NOT_FOUND:
                raise
            session.open_channel(deadline)
            session.call(commands.Exchange.Declare(exchange=exchange, exchange_type="topic", durable=True), deadline)
        queue = f"{exchange}.deckwatch.{secrets.token_hex(8)}"
        declare = commands.Queue.Declare(queue=queue, exclusive=True, auto_delete=True, arguments=_QUEUE_LIMITS)
        session.call(declare, deadline)
        session.call(commands.Queue.Bind(queue=queue, exchange=exchange, routing_key="#"), deadline)
        session.call(commands.Basic.Consume(queue=queue, consumer_tag="deckwatch", no_ack=True), deadline)

    def _receive(self, seconds: float) -> list[bytes]:
        session = self._session
        now = time.monotonic()
        if now - self._sent >= _HEARTBEAT / 2:
            session.send(0, session.heartbeat, deadline=Deadline(self._settings.timeout))
            self._sent = now
        if not session.has_frame:
            try:
                session.wait(Deadline(seconds))
            except TimeoutError:
                if time.monotonic() - self._heard > 2 * _HEARTBEAT:
                    raise LinkError(f"no heartbeat within {2 * _HEARTBEAT} s") from None
                return []
            self._heard = time.monotonic()
        messages: list[bytes] = []
        while session.has_frame:
            messages += self._taken(session.frame(Deadline(self._settings.timeout)))
        return messages

    def _taken(self, frame: bytes) -> list[bytes]:
        """The message that a frame completes, if it does."""
        kind, payload = frame[0], frame[_PAYLOAD]
        if kind == _CONTENT_HEADER:
            self._due, self._body = int.from_bytes(frame[_SIZE], "big"), []
            if self._due > _LARGEST_MESSAGE:
                raise LinkError(f"a message of {self._due} bytes")
            return [] if self._due else [b""]
        if kind == _CONTENT_BODY:
            self._body.append(payload)
            self._due -= len(payload)
            return [] if self._due > 0 else [b"".join(self._body)]
        if kind == METHOD and not payload.startswith(_DELIVER):
            deadline = Deadline(self._settings.timeout)
            method = self._session.decoded(frame, deadline)
            if method.name == "Channel.Close":
                raise LinkError(str(method.reply_text))
            if method.name == "Basic.Cancel":
                self._session.send(CHANNEL, self._session.commands.Basic.CancelOk("deckwatch"), deadline=deadline)
                raise LinkError("the queue was deleted")
        return []
