"""The one connection to a server: opened when first needed, kept, opened again when it broke.

redis-py opens it (addresses, TLS, Unix sockets, Sentinel); what is sent and read is done here, because a cycle reads
thousands of small values and has one deadline for all of them, not one for each.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from deckwatch.exporter import Unreachable, client_context, tls_failure

from .address import host_and_port
from .resp import ProtocolError, Reader, Reply, ReplyError, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .address import Address
    from .settings import ConnectionSettings

CLIENT_NAME = "deckwatch"
_CHUNK = 128 * 1024

#: Seconds for which a command that the server refused is left alone: each refusal is an entry in its ACL log.
REFUSED_FOR = 300.0


class Refused(NamedTuple):
    """A command that the server refused, on which connection (another one may have other rights), and until when."""

    reply: ReplyError
    generation: int
    until: float  # by the stopwatch


class ConnectionFailed(Unreachable):
    """The server cannot be reached or does not answer. The message names it, and nothing secret."""


class _Broken(Exception):
    """The connection was closed: the server restarted, or had enough of an idle client."""


class Connection:
    """What the probes of one target share. Every exchange has `timeout` seconds.

    Exchanges of several threads take turns. `leads` marks those of the probe that connects: when it could not, the
    others fail at once with what it was told, instead of waiting for another timeout.
    """

    def __init__(self, settings: ConnectionSettings, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._address = settings.address
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._link: Any = None  # redis.connection.AbstractConnection, of a library that is imported when needed
        self._reader = Reader()
        self._failure = ""
        self._where = str(self._address)
        self.generation = 0  # of the connection: another one may have other privileges
        self.connect_seconds = 0.0

    @property
    def address(self) -> Address:
        return self._address

    def exchange(self, commands: Sequence[bytes], leads: bool = False) -> list[Reply]:
        """The replies to packed commands, sent in one go; an error reply is a `ReplyError` in its place.

        Raises ConnectionFailed.
        """
        with self._lock:
            is_new = self._link is None
            if is_new:
                if self._failure and not leads:
                    raise ConnectionFailed(self._failure)
                self._open()
            try:
                return self._round_trip(commands)
            except _Broken as broken:
                self._drop()
                if is_new:
                    raise self._failed(str(broken)) from None
            # It may have been closed long ago, while nobody looked: that is no failure of the server of today.
            self._open()
            try:
                return self._round_trip(commands)
            except _Broken as broken:
                raise self._failed(str(broken)) from None

    def close(self) -> None:
        """Close it. The next exchange opens it again."""
        self._drop()
        self._failure = ""

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(OSError):
                link.disconnect()

    def _failed(self, why: str) -> ConnectionFailed:
        self._drop()
        self._failure = f"{self._where}: {why}"
        return ConnectionFailed(self._failure)

    def _open(self) -> None:
        began = self._stopwatch()
        self._where = str(self._address)
        try:
            redis: Any = importlib.import_module("redis")
        except ImportError:
            raise self._failed("the redis library is missing: pip install 'deckwatch[redis]'") from None
        try:
            host = self._find_master() if self._address.service else None
            link = self._make_link(host)
            link.connect()
        except redis.TimeoutError:
            raise self._failed(f"no answer within {self._settings.timeout:g} s") from None
        except (redis.RedisError, OSError, ValueError) as failure:
            # ValueError: a host name that cannot be encoded.
            raise self._failed(_reason(failure)) from None
        self._link = link
        self._reader = Reader()
        try:
            self._greet()
        except _Broken as broken:
            why = str(broken)
            if self._address.tls and not self._settings.tls.cert_file:
                # The server's alert can be lost when it closes the connection.
                why += ". If the server requires a client certificate, set tls.cert_file and tls.key_file"
            raise self._failed(why) from None
        self._failure = ""
        self.generation += 1
        self.connect_seconds = self._stopwatch() - began

    def _find_master(self) -> tuple[str, int]:
        redis: Any = importlib.import_module("redis")
        library: Any = importlib.import_module("redis.sentinel")
        retries: Any = importlib.import_module("redis.retry")
        backoff: Any = importlib.import_module("redis.backoff")
        settings, hosts = self._settings, self._address.hosts
        each = settings.timeout / len(hosts)  # all of them hanging must not take longer than one server
        options: dict[str, Any] = {
            "socket_timeout": each,
            "socket_connect_timeout": each,
            "retry": retries.Retry(backoff.NoBackoff(), 0),
            "protocol": 2,
            "username": settings.sentinel_username or None,
            "password": settings.sentinel_password.get_secret_value() or None,
        }
        tls_failures: list[str] = []
        if self._address.tls:
            context = self._tls_context()

            def start(link: Any) -> None:
                try:
                    _start_tls(link, context)
                except redis.ConnectionError as failure:
                    tls_failures.append(_reason(failure))
                    raise
                link.on_connect()

            options["redis_connect_func"] = start
        sentinel = library.Sentinel(list(hosts), sentinel_kwargs=options)
        try:
            found: tuple[str, int] = sentinel.discover_master(self._address.service)
        except library.MasterNotFoundError:
            # Its own message would hold how each client was made.
            why = f"none of {len(hosts)} Sentinels answered with a healthy master of that name"
            raise redis.ConnectionError(": ".join((why, *tls_failures[-1:]))) from None
        finally:
            with contextlib.suppress(redis.RedisError, OSError):
                for client in sentinel.sentinels:
                    client.close()
        self._where = f"{self._address.service} at {host_and_port(*found)}"
        return found

    def _make_link(self, host: tuple[str, int] | None) -> Any:
        library: Any = importlib.import_module("redis.connection")  # it is annotated in part only
        address = self._address
        options: dict[str, Any] = {
            "socket_timeout": self._settings.timeout,
            "socket_connect_timeout": self._settings.timeout,
            # The greeting is done here: redis-py gives up where an ACL forbids CLIENT SETNAME.
            "redis_connect_func": lambda _link: None,
            "protocol": 2,
        }
        if address.path:
            return library.UnixDomainSocketConnection(path=address.path, **options)
        name, port = host or address.hosts[0]
        if address.tls:
            context = self._tls_context()
            options["redis_connect_func"] = lambda link: _start_tls(link, context)
        return library.Connection(host=name, port=port, **options)

    def _tls_context(self) -> ssl.SSLContext:
        tls = self._settings.tls
        return client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=tls.verify)

    def _greet(self) -> None:
        """Log in, under a name that CLIENT LIST shows. Raises ConnectionFailed when the server does not let us."""
        user, password = self._settings.credentials
        if self._settings.protocol == 3:
            login = ("AUTH", user or "default", password) if password else ()
            (hello,) = self._round_trip([pack("HELLO", 3, *login, "SETNAME", CLIENT_NAME)])
            if not isinstance(hello, ReplyError):
                return
            # Before version 6, and where an ACL forbids it, protocol 2 without it does as well.
            if not (hello.is_unknown or hello.is_denied or hello.code == "NOPROTO"):
                raise self._failed(_refusal(hello))
        if password:
            (welcome,) = self._round_trip([pack("AUTH", user, password) if user else pack("AUTH", password)])
            if isinstance(welcome, ReplyError):
                raise self._failed(_refusal(welcome))
        (named,) = self._round_trip([pack("CLIENT", "SETNAME", CLIENT_NAME)])
        if isinstance(named, ReplyError) and named.code in ("NOAUTH", "DENIED"):
            raise self._failed(_refusal(named))

    def _round_trip(self, commands: Sequence[bytes]) -> list[Reply]:
        connected: socket.socket = self._link._sock  # redis-py offers it by no other name
        deadline = self._stopwatch() + self._settings.timeout
        replies: list[Reply] = []
        wanted = len(commands)
        try:
            connected.settimeout(self._settings.timeout)
            connected.sendall(b"".join(commands))
            while True:
                replies.extend(self._reader.replies())
                if len(replies) >= wanted:
                    break
                left = deadline - self._stopwatch()
                if left <= 0:
                    raise TimeoutError
                connected.settimeout(left)
                data = connected.recv(_CHUNK)
                if not data:
                    raise _Broken("the server closed the connection")
                self._reader.feed(data)
        except TimeoutError:
            raise self._failed(f"no answer within {self._settings.timeout:g} s") from None
        except ProtocolError as wrong:
            raise self._failed(str(wrong)) from None
        except OSError as failure:
            raise _Broken(_reason(failure)) from None
        if len(replies) > wanted:
            raise self._failed("not the Redis protocol: more replies than commands")
        return replies


def _start_tls(link: Any, context: ssl.SSLContext) -> None:
    """Start TLS on a connection that redis-py has just opened. Raises redis-py's exceptions.

    Its own SSLConnection offers no way to pass a context.
    """
    redis: Any = importlib.import_module("redis")
    try:
        link._sock = context.wrap_socket(link._sock, server_hostname=link.host)
    except TimeoutError:
        raise redis.ConnectionError("TLS handshake timed out. Check whether url names a TLS port") from None
    except (OSError, ValueError) as failure:
        raise redis.ConnectionError(_reason(failure)) from None


def _reason(failure: BaseException) -> str:
    if isinstance(failure, ssl.SSLError):
        return tls_failure(failure)
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    cause = failure.__context__
    if isinstance(cause, OSError) and not failure.__suppress_context__:  # redis-py wraps it into a longer text
        return _reason(cause)
    return " ".join(str(failure).split()) or type(failure).__name__


def _refusal(error: ReplyError) -> str:
    """Why the server does not let us in, and what to do. The server's own words hold no secret."""
    if error.code == "NOAUTH":
        return "the server wants a password: set password or password_file"
    if error.code == "WRONGPASS" or "invalid password" in error.message:
        return f"wrong user or password: {error.message}"
    return error.message
