"""One AMQP 0-9-1 connection with one channel. https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf

pamqp encodes and decodes the methods.
"""

from __future__ import annotations

import contextlib
import importlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Missing, Unreachable, client_context
from deckwatch_exporters.clients.stream import Deadline, LinkError, Stream

if TYPE_CHECKING:
    from typing import Self

    from .address import Address
    from .settings import ConnectionSettings

#: The channel of all methods but those of the connection.
CHANNEL = 1
METHOD = 1  # the type of a frame, as are those of content and heartbeats
ACCESS_REFUSED = 403
NOT_FOUND = 404

_HEADER = b"AMQP\x00\x00\x09\x01"
_FRAME_HEADER = 7
_LARGEST_FRAME = 128 * 1024
_FRAME_TYPES = (METHOD, 2, 3, 8)
_NOT_AMQP = "the server does not speak AMQP 0-9-1. Check host and port in url"
_NOT_ALLOWED = 530


class ConnectionFailed(Unreachable):
    """The server is unreachable or does not answer. The message names it and contains no secret."""


@dataclass(frozen=True)
class ServerClosed(Exception):
    """The server closed the connection or the channel."""

    code: int
    text: str


#: What the methods of a session raise. `explained()` makes a failure of the target of it.
FAILURES = (LinkError, TimeoutError, ServerClosed, ImportError)


class Session:
    """An open connection. Its methods raise LinkError, TimeoutError and ServerClosed; after that it must be dropped."""

    @classmethod
    def open(cls, settings: ConnectionSettings, address: Address, deadline: Deadline, heartbeat: int = 0) -> Self:
        """Connect and log in. `heartbeat` is the seconds of silence that both sides accept; 0 is any.

        Raises ImportError without pamqp.
        """
        tls = settings.tls
        context = None
        if address.tls:
            try:
                context = client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=tls.verify)
            except OSError as failure:
                raise LinkError(str(failure)) from None
        session = cls(Stream((address.host, address.port), context, deadline))
        try:
            session._log_in(*settings.credentials_at(address), settings.virtual_host, heartbeat, deadline)
        except BaseException:
            session.drop()
            raise
        return session

    def __init__(self, stream: Stream) -> None:
        self._frames = importlib.import_module("pamqp.frame")
        self.commands = importlib.import_module("pamqp.commands")
        self.heartbeat = importlib.import_module("pamqp.heartbeat").Heartbeat()
        self._stream = stream
        self._buffer = b""

    def _log_in(self, user: str, password: str, vhost: str, heartbeat: int, deadline: Deadline) -> None:
        connection = self.commands.Connection
        self._stream.send(_HEADER, deadline)
        try:
            self.expect("Connection.Start", deadline)
        except TimeoutError:
            raise LinkError("no AMQP greeting. The server hangs, or host and port in url are not RabbitMQ's") from None
        # The server explains a refused login instead of only closing the connection, and says when a queue is deleted.
        capabilities = {"authentication_failure_close": True, "consumer_cancel_notify": True}
        properties = {"product": "deckwatch", "connection_name": "deckwatch", "capabilities": capabilities}
        self.send(0, connection.StartOk(properties, "PLAIN", f"\0{user}\0{password}"), deadline=deadline)
        tune = self.expect("Connection.Tune", deadline)
        tuned = connection.TuneOk(tune.channel_max, min(tune.frame_max or _LARGEST_FRAME, _LARGEST_FRAME), heartbeat)
        self.send(0, tuned, connection.Open(vhost), deadline=deadline)
        self.expect("Connection.OpenOk", deadline)

    def open_channel(self, deadline: Deadline) -> None:
        """Open the channel: at first, and after the server closed it."""
        self.send(CHANNEL, self.commands.Channel.Open(), deadline=deadline)
        self.expect("Channel.OpenOk", deadline)

    def end(self, deadline: Deadline) -> None:
        """Close in an orderly way, so that the server does not log a lost connection."""
        with contextlib.suppress(LinkError, TimeoutError, ServerClosed):
            self.send(0, self.commands.Connection.Close(200, "", 0, 0), deadline=deadline)
            self.expect("Connection.CloseOk", deadline)
        self.drop()

    def drop(self) -> None:
        self._stream.close()

    def send(self, channel: int, *methods: Any, deadline: Deadline) -> None:
        try:
            data = b"".join(self._frames.marshal(method, channel) for method in methods)
        except (ValueError, TypeError) as wrong:
            raise LinkError(f"cannot be sent to the server: {wrong}") from None
        self._stream.send(data, deadline)

    def expect(self, name: str, deadline: Deadline) -> Any:
        answer = self.method(deadline)
        if answer.name != name:
            raise LinkError(f"unexpected {answer.name} from the server instead of {name}")
        return answer

    def call(self, method: Any, deadline: Deadline) -> Any:
        """Send a method of the channel, and return the answer. Raises ServerClosed if the server closes the channel."""
        self.send(CHANNEL, method, deadline=deadline)
        answer = self.method(deadline)
        if answer.name == "Channel.Close":
            self.send(CHANNEL, self.commands.Channel.CloseOk(), deadline=deadline)
            raise ServerClosed(int(answer.reply_code), str(answer.reply_text))
        return answer

    def method(self, deadline: Deadline) -> Any:
        """The next method of the server, apart from heartbeats."""
        while True:
            found = self.decoded(self.frame(deadline), deadline)
            if found.name not in ("Heartbeat", "Connection.Blocked", "Connection.Unblocked"):
                return found

    def decoded(self, frame: bytes, deadline: Deadline) -> Any:
        """What a frame contains. Raises ServerClosed if it ends the connection."""
        try:
            found = self._frames.unmarshal(frame)[2]
        except Exception as wrong:  # noqa: BLE001  pamqp raises what struct, codecs and its tables raise
            raise LinkError(f"{_NOT_AMQP} ({type(wrong).__name__})") from None
        if found.name == "Connection.Close":
            with contextlib.suppress(LinkError, TimeoutError):
                self.send(0, self.commands.Connection.CloseOk(), deadline=deadline)
            raise ServerClosed(int(found.reply_code), str(found.reply_text))
        return found

    @property
    def has_frame(self) -> bool:
        """Whether the next frame has arrived as a whole."""
        size = int.from_bytes(self._buffer[3:_FRAME_HEADER], "big")
        return len(self._buffer) > _FRAME_HEADER + size

    def frame(self, deadline: Deadline) -> bytes:
        """The next frame: its type, channel and size (7 bytes), its content, and the byte that ends it."""
        self._fill(_FRAME_HEADER, deadline)
        if self._buffer.startswith(b"AMQP"):
            raise LinkError("the server speaks another version of AMQP. Deckwatch requires AMQP 0-9-1")
        size = int.from_bytes(self._buffer[3:7], "big")
        if self._buffer[0] not in _FRAME_TYPES or size > _LARGEST_FRAME:
            raise LinkError(_NOT_AMQP)
        whole = _FRAME_HEADER + size + 1
        self._fill(whole, deadline)
        data, self._buffer = self._buffer[:whole], self._buffer[whole:]
        return data

    def wait(self, deadline: Deadline) -> None:
        """Wait for more of the next frame."""
        self._buffer += self._stream.receive(deadline)

    def _fill(self, size: int, deadline: Deadline) -> None:
        while len(self._buffer) < size:
            # Whether it is AMQP shows in the first byte: another server may send less than a frame's header.
            if self._buffer and self._buffer[0] not in (*_FRAME_TYPES, ord("A")):
                raise LinkError(_NOT_AMQP)
            self.wait(deadline)


def explained(failure: Exception, settings: ConnectionSettings, address: Address) -> Exception:
    """One of FAILURES as ConnectionFailed, or as Missing with the command that gives the right."""
    user, vhost = settings.credentials_at(address)[0], settings.virtual_host
    match failure:
        case TimeoutError():
            why = f"no answer within {settings.timeout:g} s"
        case ImportError():
            why = "pamqp is not installed: pip install 'deckwatch[rabbitmq]'"
        case ServerClosed(code=code) if code == ACCESS_REFUSED:
            why = wrong_login(user)
        case ServerClosed(code=code, text=text) if code == _NOT_ALLOWED and "not found" in text:
            why = f"no virtual host {vhost!r}. Check the virtual host in url"
        case ServerClosed(code=code) if code == _NOT_ALLOWED:
            return Missing(f"{user} may not access the virtual host {vhost!r}", grant_vhost(vhost, user))
        case ServerClosed(code=code, text=text):
            why = text or f"the server closed the connection ({code})"
        case _:
            why = str(failure)
    return ConnectionFailed(f"{address}: {why}")


def wrong_login(user: str) -> str:
    """Why the server refuses a login, and what to do. Its own message is the same for all reasons."""
    local = " (RabbitMQ accepts guest from its own machine only)" if user == "guest" else ""
    return f"wrong user or password of {user}{local}. Check username and password_file"


def grant_vhost(vhost: str, user: str, pattern: str = "^$") -> str:
    """The command that gives a user access to a virtual host, and all rights on the names that match."""
    rights = " ".join([f"'{pattern}'"] * 3)
    return f"rabbitmqctl set_permissions -p {shlex.quote(vhost)} {shlex.quote(user)} {rights}"
