"""Queues over AMQP 0-9-1: how many messages wait in them, and how many consumers they have.

pamqp encodes and decodes the frames. Heartbeats are off, because nothing would send them between two runs; a deadline
for each exchange finds a hung server. https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf
"""

from __future__ import annotations

import contextlib
import importlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from deckwatch.exporter import Missing, Unreachable, client_context
from deckwatch_exporters.clients.stream import Deadline, LinkClosed, LinkError, Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .address import Address
    from .settings import ConnectionSettings

_HEADER = b"AMQP\x00\x00\x09\x01"
_FRAME_HEADER = 7
_LARGEST_FRAME = 128 * 1024
_FRAME_TYPES = (1, 2, 3, 8)
_AT_ONCE = 500  # declarations in one go
_CLOSING = 1.0  # seconds that an orderly close may take
_NOT_AMQP = "the server does not speak AMQP 0-9-1. Check host and port in url"
_NOT_FOUND = 404
_ACCESS_REFUSED = 403
_NOT_ALLOWED = 530


class ConnectionFailed(Unreachable):
    """The server is unreachable or does not answer. The message names it and contains no secret."""


class Counted(NamedTuple):
    """A queue, as a passive declaration reports it."""

    ready: int
    consumers: int


class Refused(NamedTuple):
    """Why the server does not count a queue."""

    text: str


@dataclass(frozen=True)
class _ServerClosed(Exception):
    code: int
    text: str


class AmqpConnection:
    """The connection of one target: opened when it is first needed, kept open, reopened when it breaks."""

    def __init__(self, settings: ConnectionSettings, address: Address) -> None:
        self._settings = settings
        self._address = address
        self._session: _Session | None = None
        self._refused: set[str] = set()  # queues that the server did not count last time

    def count(self, queues: Sequence[str]) -> dict[str, Counted | Refused | None]:
        """Count each queue; None for a queue that does not exist. Raises ConnectionFailed, Missing."""
        deadline = Deadline(self._settings.timeout)
        try:
            found = self._count(queues, deadline)
        except LinkError as failure:
            raise self._failed(str(failure)) from None
        except TimeoutError:
            raise self._failed(f"no answer within {self._settings.timeout:g} s") from None
        except _ServerClosed as closed:
            self._drop()
            raise self._explained(closed) from None
        except ImportError:
            raise self._failed("pamqp is not installed: pip install 'deckwatch[rabbitmq]'") from None
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
            except (LinkClosed, _ServerClosed):
                # The server may have closed it long ago and be up now.
                self._drop()
        self._session = self._open(deadline)
        return self._session.count(certain, doubtful, deadline)

    def _open(self, deadline: Deadline) -> _Session:
        tls, address = self._settings.tls, self._address
        context = None
        if address.tls:
            try:
                context = client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=tls.verify)
            except OSError as failure:
                raise LinkError(str(failure)) from None
        session = _Session(Stream((address.host, address.port), context, deadline))
        try:
            session.log_in(*self._settings.credentials, self._settings.virtual_host, deadline)
        except BaseException:
            session.drop()
            raise
        return session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.drop()

    def _failed(self, why: str) -> ConnectionFailed:
        self._drop()
        return ConnectionFailed(f"{self._address}: {why}")

    def _explained(self, closed: _ServerClosed) -> Exception:
        user, vhost = self._settings.credentials[0], self._settings.virtual_host
        if closed.code == _ACCESS_REFUSED:
            return self._failed(wrong_login(user))
        if closed.code == _NOT_ALLOWED and "not found" in closed.text:
            return self._failed(f"no virtual host {vhost!r}. Check the virtual host in url")
        if closed.code == _NOT_ALLOWED:
            return Missing(f"{user} may not access the virtual host {vhost!r}", grant_vhost(vhost, user))
        return self._failed(closed.text or f"the server closed the connection ({closed.code})")


def wrong_login(user: str) -> str:
    """Why the server refuses a login, and what to do. Its own message is the same for all reasons."""
    local = " (RabbitMQ accepts guest from its own machine only)" if user == "guest" else ""
    return f"wrong user or password of {user}{local}. Check username and password_file"


def grant_vhost(vhost: str, user: str) -> str:
    """The command that gives a user access to a virtual host, without any right there."""
    return f"rabbitmqctl set_permissions -p {shlex.quote(vhost)} {shlex.quote(user)} '^$' '^$' '^$'"


class _Session:
    """An open connection with one channel. Raises LinkError, TimeoutError, _ServerClosed."""

    def __init__(self, stream: Stream) -> None:
        self._frames = importlib.import_module("pamqp.frame")
        self._commands = importlib.import_module("pamqp.commands")
        self._stream = stream
        self._buffer = b""
        self._has_channel = False

    def log_in(self, user: str, password: str, vhost: str, deadline: Deadline) -> None:
        connection = self._commands.Connection
        self._stream.send(_HEADER, deadline)
        try:
            self._expect("Connection.Start", deadline)
        except TimeoutError:
            raise LinkError("no AMQP greeting. The server hangs, or host and port in url are not RabbitMQ's") from None
        properties = {
            "product": "deckwatch",
            "connection_name": "deckwatch",
            # The server explains a refused login instead of only closing the connection.
            "capabilities": {"authentication_failure_close": True},
        }
        self._send(0, connection.StartOk(properties, "PLAIN", f"\0{user}\0{password}"), deadline=deadline)
        tune = self._expect("Connection.Tune", deadline)
        tuned = connection.TuneOk(tune.channel_max, min(tune.frame_max or _LARGEST_FRAME, _LARGEST_FRAME), 0)
        self._send(0, tuned, connection.Open(vhost), deadline=deadline)
        self._expect("Connection.OpenOk", deadline)

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
        commands = self._commands
        if not self._has_channel:
            self._send(1, commands.Channel.Open(), deadline=deadline)
            self._expect("Channel.OpenOk", deadline)
            self._has_channel = True
        self._send(1, *(commands.Queue.Declare(queue=queue, passive=True) for queue in queues), deadline=deadline)
        for queue in queues:
            answer = self._method(deadline)
            if answer.name == "Channel.Close":
                self._send(1, commands.Channel.CloseOk(), deadline=deadline)
                self._has_channel = False
                found[queue] = None if answer.reply_code == _NOT_FOUND else Refused(str(answer.reply_text))
                return
            if answer.name != "Queue.DeclareOk":
                raise LinkError(f"unexpected {answer.name} from the server")
            found[queue] = Counted(int(answer.message_count), int(answer.consumer_count))

    def end(self, deadline: Deadline) -> None:
        """Close in an orderly way, so that the server does not log a lost connection."""
        with contextlib.suppress(LinkError, TimeoutError, _ServerClosed):
            self._send(0, self._commands.Connection.Close(200, "", 0, 0), deadline=deadline)
            self._expect("Connection.CloseOk", deadline)
        self.drop()

    def drop(self) -> None:
        self._stream.close()

    def _send(self, channel: int, *methods: Any, deadline: Deadline) -> None:
        try:
            data = b"".join(self._frames.marshal(method, channel) for method in methods)
        except (ValueError, TypeError) as wrong:
            raise LinkError(f"cannot be sent to the server: {wrong}") from None
        self._stream.send(data, deadline)

    def _expect(self, name: str, deadline: Deadline) -> Any:
        answer = self._method(deadline)
        if answer.name != name:
            raise LinkError(f"unexpected {answer.name} from the server instead of {name}")
        return answer

    def _method(self, deadline: Deadline) -> Any:
        """The next method of the server, apart from heartbeats."""
        while True:
            frame = self._frame(deadline)
            if frame.name == "Connection.Close":
                with contextlib.suppress(LinkError, TimeoutError):
                    self._send(0, self._commands.Connection.CloseOk(), deadline=deadline)
                raise _ServerClosed(int(frame.reply_code), str(frame.reply_text))
            if frame.name not in ("Heartbeat", "Connection.Blocked", "Connection.Unblocked"):
                return frame

    def _frame(self, deadline: Deadline) -> Any:
        self._fill(_FRAME_HEADER, deadline)
        if self._buffer.startswith(b"AMQP"):
            raise LinkError("the server speaks another version of AMQP. Deckwatch requires AMQP 0-9-1")
        size = int.from_bytes(self._buffer[3:7], "big")
        if self._buffer[0] not in _FRAME_TYPES or size > _LARGEST_FRAME:
            raise LinkError(_NOT_AMQP)
        whole = _FRAME_HEADER + size + 1
        self._fill(whole, deadline)
        data, self._buffer = self._buffer[:whole], self._buffer[whole:]
        try:
            return self._frames.unmarshal(data)[2]
        except Exception as wrong:  # noqa: BLE001  pamqp raises what struct, codecs and its tables raise
            raise LinkError(f"{_NOT_AMQP} ({type(wrong).__name__})") from None

    def _fill(self, size: int, deadline: Deadline) -> None:
        while len(self._buffer) < size:
            # Whether it is AMQP shows in the first byte: another server may send less than a frame's header.
            if self._buffer and self._buffer[0] not in (*_FRAME_TYPES, ord("A")):
                raise LinkError(_NOT_AMQP)
            self._buffer += self._stream.receive(deadline)
