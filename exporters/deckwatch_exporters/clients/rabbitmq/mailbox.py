"""Messages to a fanout exchange, and the replies that come over another one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from deckwatch.exporter import Missing
from deckwatch_exporters.clients.stream import Deadline, LinkError

from .session import ACCESS_REFUSED, CHANNEL, FAILURES, NOT_FOUND, ServerClosed, Session, explained, grant_vhost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .address import Address
    from .settings import ConnectionSettings

_CLOSING = 1.0  # seconds that an orderly close may take
_MOST_REPLIES = 10_000  # that are read at a time
_QUEUE_LIMITS = {"x-message-ttl": 300_000, "x-max-length": _MOST_REPLIES}


class Mailbox:
    """The mailbox `name` of kombu, with a queue for replies that ends with the connection. Raises ConnectionFailed.

    `identity` is a name and, after a dot, what no other process has. Raises Missing without the rights. https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.pidbox.html
    """

    def __init__(self, settings: ConnectionSettings, address: Address, name: str, identity: str) -> None:
        self._settings, self._address = settings, address
        self._exchange, self._replies = f"{name}.pidbox", f"reply.{name}.pidbox"
        self._identity = identity
        self._queue = f"{identity}.{self._replies}"
        self._session: Session | None = None

    def send(self, messages: Sequence[bytes]) -> list[bytes]:
        """Send JSON messages, and return the replies to those that were sent before."""
        deadline = Deadline(self._settings.timeout)
        try:
            if self._session is None:
                self._session = self._opened(deadline)
            found = self._received(self._session, deadline)
            self._publish(self._session, messages, deadline)
        except FAILURES as failure:
            self._drop()
            if isinstance(failure, ServerClosed) and failure.code == ACCESS_REFUSED:
                user, vhost = self._settings.credentials_at(self._address)[0], self._settings.virtual_host
                ours = self._identity.partition(".")[0]  # the rest is another with each start
                pattern = rf"^(celeryev|{self._exchange}|{self._replies}|{ours}.)".replace(".", r"\.")
                why = f"{user} may not use {self._exchange} in virtual host {vhost!r}"
                raise Missing(why, grant_vhost(vhost, user, pattern)) from None
            raise explained(failure, self._settings, self._address) from None
        return found

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end(Deadline(_CLOSING))

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.drop()

    def _opened(self, deadline: Deadline) -> Session:
        session = Session.open(self._settings, self._address, deadline)
        try:
            commands = session.commands
            session.open_channel(deadline)
            # As kombu declares it, and the worker before it replies.
            session.call(commands.Exchange.Declare(exchange=self._replies, exchange_type="direct"), deadline)
            declare = commands.Queue.Declare(queue=self._queue, exclusive=True, arguments=_QUEUE_LIMITS)
            session.call(declare, deadline)
            bind = commands.Queue.Bind(queue=self._queue, exchange=self._replies, routing_key=self._identity)
            session.call(bind, deadline)
        except BaseException:
            session.drop()
            raise
        return session

    def _received(self, session: Session, deadline: Deadline) -> list[bytes]:
        found: list[bytes] = []
        get = session.commands.Basic.Get(queue=self._queue, no_ack=True)
        while len(found) < _MOST_REPLIES and session.call(get, deadline).name == "Basic.GetOk":
            header = session.decoded(session.frame(deadline), deadline)
            if header.name != "ContentHeader":
                raise LinkError(f"unexpected {header.name} from the server")
            body = b""
            while len(body) < header.body_size:
                body += session.decoded(session.frame(deadline), deadline).value
            found.append(body)
        return found

    def _publish(self, session: Session, messages: Sequence[bytes], deadline: Deadline) -> None:
        commands = session.commands
        try:
            session.call(commands.Exchange.Declare(exchange=self._exchange, passive=True), deadline)
        except ServerClosed as closed:
            if closed.code != NOT_FOUND:
                raise
            session.open_channel(deadline)
            return  # no worker has started yet
        header, body = importlib.import_module("pamqp.header"), importlib.import_module("pamqp.body")
        properties = commands.Basic.Properties(
            content_type="application/json", content_encoding="utf-8", headers={}, delivery_mode=1
        )
        for message in messages:
            session.send(
                CHANNEL,
                commands.Basic.Publish(exchange=self._exchange),
                header.ContentHeader(body_size=len(message), properties=properties),
                body.ContentBody(message),
                deadline=deadline,
            )
