"""The connection of one target: opened when it is first needed, kept open, reopened when it breaks."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deckwatch.exporter import Unreachable, client_context
from deckwatch_exporters.clients.stream import Deadline, Endpoint, LinkClosed, LinkError

from .address import host_and_port
from .link import Link
from .resp import Reply, ReplyError, pack, text_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence

    from .address import Address
    from .settings import ConnectionSettings

CLIENT_NAME = "deckwatch"


class ConnectionFailed(Unreachable):
    """The server is unreachable or does not answer. The message names it and contains no secret."""


class Connection:
    """The connection that the collectors of one target share. An exchange fails after `timeout` seconds.

    Exchanges of several threads run one after another. `leads` marks those of the collector that connects: if it
    failed, the others fail at once with the same error instead of waiting for another timeout.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._address = settings.address
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._failure = ""
        self._where = str(self._address)
        self.generation = 0  # of the connection: the user of another one can have other privileges
        self.connect_seconds = 0.0

    @property
    def address(self) -> Address:
        return self._address

    def exchange(self, commands: Sequence[bytes], leads: bool = False) -> list[Reply]:
        """The replies to packed commands, which are sent together; an error reply is a `ReplyError`.

        Raises ConnectionFailed.
        """
        with self._lock:
            if self._link is None and self._failure and not leads:
                raise ConnectionFailed(self._failure)
            with self._failures_named():
                return self._exchange(commands, Deadline(self._settings.timeout))

    def open_link(self) -> Link:
        """A new authenticated connection, which the caller owns. Raises ConnectionFailed."""
        with self._failures_named():
            return self._open(Deadline(self._settings.timeout))

    def close(self) -> None:
        """Close it. The next exchange opens it again."""
        self._drop()
        self._failure = ""

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except LinkError as failure:
            raise self._failed(str(failure)) from None
        except TimeoutError:
            raise self._failed(f"no answer within {self._settings.timeout:g} s") from None
        except ImportError:
            raise self._failed("hiredis is not installed: pip install 'deckwatch[redis]'") from None

    def _failed(self, why: str) -> ConnectionFailed:
        self._drop()
        self._failure = f"{self._where}: {why}"
        return ConnectionFailed(self._failure)

    def _exchange(self, commands: Sequence[bytes], deadline: Deadline) -> list[Reply]:
        if self._link is not None:
            try:
                return self._link.round_trip(commands, deadline)
            except LinkClosed:
                # The server may have closed it long ago and be up now.
                self._drop()
        self._link = self._open(deadline)
        return self._link.round_trip(commands, deadline)

    def _open(self, deadline: Deadline) -> Link:
        began = time.monotonic()
        self._where = str(self._address)
        try:
            context = self._tls_context()
        except OSError as failure:
            raise LinkError(str(failure)) from None
        if self._address.service:
            link = self._open_master(context, deadline)
        else:
            link = self._open_server(self._address.path or self._address.hosts[0], context, deadline)
        self._failure = ""
        self.generation += 1
        self.connect_seconds = time.monotonic() - began
        return link

    def _tls_context(self) -> ssl.SSLContext | None:
        tls = self._settings.tls
        if not self._address.tls:
            return None
        return client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=tls.verify)

    def _open_server(self, endpoint: Endpoint, context: ssl.SSLContext | None, deadline: Deadline) -> Link:
        link = Link(endpoint, context, deadline)
        try:
            self._greet(link, deadline)
            if self._address.service:
                _refuse_replica(link, deadline)
        except LinkClosed as failure:
            link.close()
            if context is not None and not self._settings.tls.cert_file:
                # The server's alert can be lost when it closes the connection.
                hint = "If the server requires a client certificate, set tls.cert_file and tls.key_file"
                raise LinkError(f"{failure}. {hint}") from None
            raise
        except (LinkError, TimeoutError):
            link.close()
            raise
        return link

    def _open_master(self, context: ssl.SSLContext | None, deadline: Deadline) -> Link:
        """Connect to the master that the first reachable Sentinel names.

        A Sentinel that was partitioned can name a former master. If it does, the next Sentinel is asked.
        https://redis.io/docs/latest/develop/reference/sentinel-clients/
        """
        hosts = self._address.hosts
        failures: dict[str, str] = {}  # by server
        for position, host in enumerate(hosts):
            left = len(hosts) - position
            server = host_and_port(*host)
            try:
                # The Sentinels and the master share the timeout, so that one that hangs does not use all of it.
                master = self._ask_sentinel(host, context, deadline.share(left + 1))
                server = host_and_port(*master)
                if server in failures:
                    continue
                link = self._open_server(master, context, deadline.share(left))
            except LinkError as failure:
                failures[server] = str(failure)
            except TimeoutError:
                failures[server] = "no answer"
            else:
                self._where = f"{self._address.service} at {server}"
                return link
        reasons = "; ".join(f"{server}: {reason}" for server, reason in failures.items())
        raise LinkError(f"none of {len(hosts)} Sentinels named a healthy master: {reasons}")

    def _ask_sentinel(
        self, host: tuple[str, int], context: ssl.SSLContext | None, deadline: Deadline
    ) -> tuple[str, int]:
        settings = self._settings
        link = Link(host, context, deadline)
        try:
            if password := settings.sentinel_password.get_secret_value():
                _log_in(link, settings.sentinel_username, password, deadline)
            question = pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)
            (reply,) = link.round_trip([question], deadline)
        finally:
            link.close()
        match reply:
            case [bytes(name), bytes(port)] if re.fullmatch(rb"[0-9]{1,5}", port) and int(port) < 65536:
                return text_of(name), int(port)
            case ReplyError(code="NOAUTH"):
                raise LinkError("the Sentinel requires a password. Set sentinel_password")
            case ReplyError(message=message):
                raise LinkError(message)
        raise LinkError(f"no master named {self._address.service}. Check the service in the URL")

    def _greet(self, link: Link, deadline: Deadline) -> None:
        """Authenticate and set the connection's name for CLIENT LIST. Raises LinkError if the server refuses."""
        user, password = self._settings.credentials
        if self._settings.protocol == 3:
            login = ("AUTH", user or "default", password) if password else ()
            (hello,) = link.round_trip([pack("HELLO", 3, *login, "SETNAME", CLIENT_NAME)], deadline)
            if not isinstance(hello, ReplyError):
                return
            # Before version 6, and if an ACL denies HELLO, use protocol 2.
            if not (hello.is_unknown or hello.is_denied or hello.code == "NOPROTO"):
                raise LinkError(_refusal(hello))
        if password:
            _log_in(link, user, password, deadline)
        (named,) = link.round_trip([pack("CLIENT", "SETNAME", CLIENT_NAME)], deadline)
        if isinstance(named, ReplyError) and (named.is_transient or named.code in ("NOAUTH", "DENIED")):
            raise LinkError(_refusal(named))


def _refuse_replica(link: Link, deadline: Deadline) -> None:
    # The user needs INFO anyway, unlike ROLE.
    (replication,) = link.round_trip([pack("INFO", "replication")], deadline)
    if isinstance(replication, bytes) and b"role:slave" in replication:
        raise LinkError("the server is a replica")


def _log_in(link: Link, user: str, password: str, deadline: Deadline) -> None:
    (welcome,) = link.round_trip([pack("AUTH", *([user] if user else []), password)], deadline)
    if isinstance(welcome, ReplyError):
        raise LinkError(_refusal(welcome))


def _refusal(error: ReplyError) -> str:
    """Why the server refuses the connection, and what to do. Its own messages contain no secret."""
    if error.code == "NOAUTH":
        return "the server requires a password. Set password or password_file"
    if error.code == "WRONGPASS" or "invalid password" in error.message:
        return f"wrong user or password ({error.message}). Check username and password_file"
    return error.message
