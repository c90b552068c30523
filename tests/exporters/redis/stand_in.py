"""A TCP server that replays captured replies, for versions that the tests cannot run."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from deckwatch_exporters.clients.redis.resp import Reader

from .support import FIXTURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deckwatch_exporters.clients.redis.resp import Reply

#: The reply to a command. A mapping is a map in protocol 3 and a flat list in protocol 2.
Answer: TypeAlias = "bytes | str | int | Exception | Sequence[Answer] | Mapping[Any, Answer] | None"

VERSIONS = {
    "redis-6.2": (6, 2),
    "redis-7.0": (7, 0),
    "redis-7.0-replica": (7, 0),
    "redis-8.0": (8, 0),
    "valkey-8.1": (7, 2),
}
SECRET = "never-to-be-seen"


def info_of(version: str) -> str:
    """Return the captured reply to INFO as sent on the wire."""
    return (FIXTURES / f"{version}.txt").read_text().replace("\n", "\r\n")


def answers_of(version: str) -> dict[str, Answer]:
    """Return the replies of the version to the commands that the exporter sends."""
    config = {
        "databases": "4",
        "maxclients": "10000",
        "maxmemory": "104857600",
        "maxmemory-policy": "allkeys-lru",
        "repl-backlog-size": "1048576",
        "io-threads": "1",
        "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        "requirepass": SECRET,
        "masterauth": SECRET,
    }
    answers: dict[str, Answer] = {
        "INFO ALL": info_of(version),
        "CONFIG GET *": config,
        "LATENCY LATEST": [["command", 1795248440, 20, 35]],
        "SLOWLOG LEN": 1,
        "SLOWLOG GET 1": [[0, 1795248440, 20090, ["DEBUG", "SLEEP", "0.02"], "127.0.0.1:41234", ""]],
        "CLIENT SETNAME deckwatch": "OK",
    }
    if VERSIONS[version] >= (7,):
        answers["LATENCY HISTOGRAM"] = {
            "get": {"calls": 2, "histogram_usec": {1: 1, 4: 2}},
            "config": {"calls": 1, "histogram_usec": {8: 1}},
            "never-heard-of": {"calls": 1, "histogram_usec": {8: 1}},
        }
    if version.startswith("valkey"):
        config |= {
            "commandlog-execution-slower-than": "10000",
            "commandlog-slow-execution-max-len": "128",
            "commandlog-request-larger-than": "1048576",
            "commandlog-large-request-max-len": "128",
            "commandlog-reply-larger-than": "1048576",
            "commandlog-large-reply-max-len": "128",
        }
        lengths: dict[str, Answer] = {"slow": 1, "large-request": 2, "large-reply": 3}
        answers |= {f"COMMANDLOG LEN {kind}": length for kind, length in lengths.items()}
    return answers


def encode(answer: Answer, protocol: int) -> bytes:
    if answer is None:
        return b"_\r\n" if protocol == 3 else b"$-1\r\n"
    if isinstance(answer, Exception):
        return b"-%b\r\n" % str(answer).encode()
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, (str, bytes)):
        data = answer.encode() if isinstance(answer, str) else answer
        return b"$%d\r\n%b\r\n" % (len(data), data)
    if isinstance(answer, dict):
        head = b"%%%d\r\n" % len(answer) if protocol == 3 else b"*%d\r\n" % (2 * len(answer))
        return head + b"".join(encode(part, protocol) for pair in answer.items() for part in pair)
    return b"*%d\r\n" % len(answer) + b"".join(encode(part, protocol) for part in answer)


class StandIn:
    """Serve `answers`, by command as sent; any other command is unknown."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.commands: list[str] = []  # that were sent to it
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        # close() alone does not wake a thread that waits in accept().
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        reader, protocol = Reader(), 2
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                for request in reader.feed(data):
                    command = _words(request)
                    self.commands.append(command)
                    if command.startswith("HELLO 3"):
                        protocol = 3
                        answer: Answer = {"server": "redis", "proto": 3}
                    else:
                        unknown = ValueError(f"ERR unknown command '{command}'")
                        answer = self.answers.get(command, unknown)
                    client.sendall(encode(answer, protocol))


def _words(request: Reply) -> str:
    assert isinstance(request, list)
    return " ".join(word.decode("utf-8", "backslashreplace") for word in request if isinstance(word, bytes))


@contextlib.contextmanager
def stand_in(answers: Mapping[str, Answer]) -> Iterator[StandIn]:
    server = StandIn(answers)
    try:
        yield server
    finally:
        server.close()
