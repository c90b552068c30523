"""The real server on a real socket, with a fake agent."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx

from deckwatch.collection.board import Selection, UnknownSelectionError
from deckwatch.collection.status import AgentStatus, CollectorStatus, HostStatus, State
from deckwatch.http.app import create_app
from deckwatch.http.limits import Limits
from deckwatch.http.listener import bind, serve
from deckwatch.http.rejections import Rejections
from deckwatch.http.web_config import WebConfigFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp

    from deckwatch.http.request_target import HostNames

#: For tests of the limits.
SHORT = Limits(idle=0.5, keep_alive=0.5, handshake=0.5, write=0.5, sweep=0.05, stop=1.0)
#: For all other tests: long enough for clients on a busy host.
PATIENT = Limits(idle=600, keep_alive=600, handshake=600, write=600, sweep=0.05, stop=1.0)


def collector(name: str, target: str = "", state: State = "ok", error: str | None = None) -> CollectorStatus:
    return CollectorStatus(
        name=name,
        exporter=name.partition(".")[0],
        target=target,
        state=state,
        last_run=None if state == "pending" else 1_700_000_000.0,
        duration=None if state == "pending" else 0.0123,
        samples=7 if state == "ok" else None,
        error=error,
        next_run=1_700_000_015.0,
    )


class FakeWatch:
    """A fake agent that returns what the test sets and records its calls."""

    def __init__(self, body: bytes = b"up 1\n") -> None:
        self.body = body
        self.zipped = gzip.compress(body, 1)
        self.collectors = [collector("deckwatch.agent"), collector("system"), collector("redis.server", "cache")]
        self.named = [("redis", "cache"), ("postgres", "main")]
        self.is_ready = True
        self.wrong: str | None = None
        self.reloads = 0
        self.reload_gate: threading.Event | None = None
        self.asked: list[tuple[Selection, bool, bool, str]] = []

    def scrape(self, selection: Selection, openmetrics: bool, compress: bool, client: str) -> Sequence[bytes]:
        self.asked.append((selection, openmetrics, compress, client))
        if selection.target == "nobody":
            raise UnknownSelectionError("unknown target 'nobody'")
        return (self.zipped if compress else self.body,)

    def status(self) -> AgentStatus:
        return AgentStatus(
            version="1.2.3",
            started=1_700_000_000.0,
            config="/etc/deckwatch.yml",
            config_loaded=True,
            collectors=tuple(self.collectors),
            host=HostStatus(cpu_ratio=0.25, memory_ratio=0.5),
        )

    def history(self, *_figure: str) -> Sequence[float]:
        return ()

    def targets(self) -> list[tuple[str, str]]:
        return self.named

    def ready(self) -> bool:
        return self.is_ready

    def reload(self) -> str | None:
        self.reloads += 1
        if self.reload_gate is not None:
            assert self.reload_gate.wait(120)
        return self.wrong


class Server:
    """The address of a running server. `client()` returns an httpx client for it."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def connect(self, source: str = "") -> socket.socket:
        """Connect to the server, optionally from another loopback address than 127.0.0.1."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60, source_address=(source, 0))


@contextlib.contextmanager
def serving(
    watch: FakeWatch | ASGIApp,
    web: WebConfigFile | None = None,
    limits: Limits = PATIENT,
    lifecycle: bool = False,
    advertise: str = "",
    hosts: HostNames | None = None,
    rejections: Rejections | None = None,
) -> Iterator[Server]:
    """Run the server in a thread. Its exceptions are raised again when it is stopped."""
    rejections = rejections or Rejections()
    file = web or WebConfigFile(None)
    app = (
        create_app(watch, lifecycle, advertise, file.problems, hosts, limits, rejections)
        if isinstance(watch, FakeWatch)
        else watch
    )
    listening = bind("127.0.0.1:0")
    started = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    failures: list[BaseException] = []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        started.set()
        await serve(app, listening, file, stop, limits, rejections)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as failure:  # noqa: BLE001  raised again in the test
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(60)
    loop, stop = loops[0]
    try:
        yield Server(listening.getsockname()[1], "https" if file.uses_tls else "http")
    finally:
        with contextlib.suppress(RuntimeError):  # the server has already ended
            loop.call_soon_threadsafe(stop.set)
        thread.join(60)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def is_closed(connection: socket.socket) -> bool:
    """Wait for the other side to close the connection, discarding data. Return False on a timeout."""
    connection.settimeout(60)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass  # a reset also closes the connection
    return True


def rewrite(file: Path, text: str) -> None:
    """Replace the content of a file atomically. Writing in place would leave it empty for a moment."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    new.replace(file)


GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
