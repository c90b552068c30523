"""The sockets: no client can block other clients or exhaust the agent's memory."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import socket
import struct
import threading
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from certificates import Authority
from deckwatch.http.connection import Connection
from deckwatch.http.connections import Connections
from deckwatch.http.limits import Limits
from deckwatch.http.listener import ListenError, address_of, bind
from deckwatch.http.web_config import WebConfigFile
from services import until

from .serving import GET, SHORT, FakeWatch, Server, is_closed, serving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

LARGE = b"x" * 20_000_000  # more than the kernel buffers for a client that does not read


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Authority, WebConfigFile]:
    authority = Authority(tmp_path)
    authority.issue("web")
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: web.crt, key_file: web.key}\n")
    return authority, WebConfigFile(tmp_path / "web.yml")


def answers(server: Server) -> bool:
    with server.client() as client:
        return client.get("/metrics", headers={"accept-encoding": "gzip"}).status_code == 200


def first_line(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.readline()


def connections() -> list[Connection]:
    """Return the open connections of the server in this process."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if isinstance(thing, Connection)]
    return [it for it in found if it.transport is not None and not it.transport.is_closing()]


def is_closed_while_sending(client: socket.socket, pieces: Iterable[bytes], pause: float) -> bool:
    try:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_a_silent_client_is_closed_and_does_not_block_others() -> None:
    with serving(FakeWatch(), limits=SHORT) as server, server.connect() as silent:
        assert answers(server)
        assert is_closed(silent)


def test_a_client_that_sends_single_bytes_is_closed_after_the_same_time() -> None:
    with serving(FakeWatch(), limits=SHORT) as server, server.connect() as slow:
        # Many times the limit in total, without a pause as long as the limit.
        pieces = (bytes([byte]) for byte in GET[:-4] + b"\r\nX-More: " + b"x" * 1000)
        assert is_closed_while_sending(slow, pieces, pause=0.05)
        assert answers(server)


def test_an_idle_connection_is_closed_after_a_response() -> None:
    with serving(FakeWatch(), limits=SHORT) as server, server.connect() as idle:
        idle.sendall(GET)
        assert first_line(idle) == b"HTTP/1.1 200 OK\r\n"
        assert is_closed(idle)


def test_a_connection_outlives_the_pause_between_two_scrapes_but_not_a_slow_request() -> None:
    limits = dataclasses.replace(SHORT, keep_alive=600)
    with serving(FakeWatch(), limits=limits) as server, server.connect() as client, server.connect() as silent:
        for _ in range(2):
            client.sendall(GET)
            with client.makefile("rb") as stream:
                head = iter(stream.readline, b"\r\n")
                (length,) = [int(line.split()[1]) for line in head if line.lower().startswith(b"content-length:")]
                assert stream.read(length)
            assert is_closed(silent), "more than the time without a first request has passed"
        client.sendall(GET[:-4])
        assert is_closed(client)


def test_connections_are_not_checked_while_no_client_sends_or_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[float] = []
    sweep = Connections.sweep

    def counted(self: Connections, now: float) -> float | None:
        checks.append(now)
        return sweep(self, now)

    monkeypatch.setattr(Connections, "sweep", counted)

    def has_stopped() -> bool:
        before = len(checks)
        time.sleep(10 * SHORT.sweep)
        return len(checks) == before

    with serving(FakeWatch(), limits=SHORT) as server:
        for _ in range(2):  # the checks stop, and begin again with the next connection
            with server.connect() as idle:
                idle.sendall(GET)
                assert is_closed(idle)
            assert checks
            until(has_stopped, what="no more checks")
            checks.clear()

    limits = dataclasses.replace(SHORT, idle=600, keep_alive=600)
    with serving(FakeWatch(), limits=limits) as server, server.client() as quiet:
        for _ in range(2):  # also while a client only keeps its connection
            assert quiet.get("/metrics").status_code == 200
            until(lambda: bool(checks), what="a check")
            until(has_stopped, what="no more checks")
            checks.clear()


def test_the_date_of_a_response_is_current_after_a_pause() -> None:
    limits = dataclasses.replace(SHORT, idle=600, keep_alive=600)
    with serving(FakeWatch(), limits=limits) as server, server.client() as client:
        client.get("/metrics")
        time.sleep(2.5)
        before = time.time()
        date = parsedate_to_datetime(client.get("/metrics").headers["date"]).timestamp()
        assert before - 2 < date <= time.time()


def test_a_connection_serves_consecutive_scrapes() -> None:
    with serving(FakeWatch()) as server, server.client() as client:
        ports = {client.get("/metrics").extensions["network_stream"].get_extra_info("client_addr") for _ in range(20)}
    assert len(ports) == 1


def test_responses_are_not_delayed_by_tcp_acknowledgements() -> None:
    with serving(FakeWatch()) as server, server.connect() as client:
        client.sendall(GET)
        assert first_line(client) == b"HTTP/1.1 200 OK\r\n"
        (connection,) = (it for it in connections() if it.transport.get_extra_info("peername") == client.getsockname())
        sending = connection.transport.get_extra_info("socket")
        assert sending.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 17_000,
        b"GET /" + b"a" * 17_000,
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 17_000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 200 + b"\r\n",
    ],
    ids=["endless header", "endless path", "long header", "many headers"],
)
def test_a_header_block_above_the_limit_is_rejected(request_: bytes) -> None:
    watch = FakeWatch()
    with serving(watch) as server, server.connect() as client:
        client.sendall(request_)
        assert first_line(client) == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        assert is_closed(client)
    assert watch.asked == []


def test_endless_headers_are_also_rejected_in_small_pieces() -> None:
    with serving(FakeWatch(), limits=Limits(sweep=0.05)) as server, server.connect() as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert is_closed_while_sending(client, [b"X-Header: y\r\n"] * 2000, pause=0.0005)
        assert answers(server)


def test_the_largest_allowed_header_block_is_accepted() -> None:
    head = b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 120
    head += b"X: " + b"a" * (16 * 1024 - len(head) - 7) + b"\r\n\r\n"
    assert len(head) == 16 * 1024
    with serving(FakeWatch()) as server, server.connect() as client:
        for _ in range(3):  # the limit applies to each request separately
            client.sendall(head)
            with client.makefile("rb") as stream:
                assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
                while stream.readline() != b"\r\n":
                    pass
                assert stream.readline() == b"up 1\n"


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET /metrics HTTP/1.1\r\n\r\n", b"GET / HTTP/x\r\n\r\n"],
    ids=["TLS", "garbage", "no host", "version"],
)
def test_malformed_requests_are_rejected_and_not_logged(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving(FakeWatch()) as server, server.connect() as client:
        client.sendall(request_ + b"\r\n\r\n")
        with client.makefile("rb") as stream:
            answer = stream.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"x-content-type-options: nosniff" in head
    assert body == b"Bad Request\n"
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_a_malformed_body_after_the_response_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), serving(FakeWatch()) as server, server.connect() as client:
        client.sendall(b"POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert first_line(client) == b"HTTP/1.1 405 Method Not Allowed\r\n"
        client.sendall(b"this is no chunk\r\n")
        assert is_closed(client)
        assert answers(server)
    assert caplog.records == []


def test_a_malformed_body_before_the_response_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    watch = FakeWatch()
    watch.reload_gate = threading.Event()
    with caplog.at_level(logging.INFO), serving(watch, lifecycle=True) as server, server.connect() as client:
        client.sendall(b"POST /-/reload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall(b"this is no chunk\r\n")
        try:
            assert first_line(client) == b"HTTP/1.1 400 Bad Request\r\n"
        finally:
            watch.reload_gate.set()
        assert answers(server)
    assert caplog.records == []


def test_pipelined_requests_get_one_response_and_a_closed_connection() -> None:
    watch = FakeWatch()
    with serving(watch) as server, server.connect() as client:
        client.sendall(GET * 50)
        with contextlib.suppress(ConnectionResetError), client.makefile("rb") as stream:
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            stream.read()
    assert len(watch.asked) == 1


def test_a_thousand_idle_connections_do_not_lock_out_scrapers_and_are_closed() -> None:
    limits = dataclasses.replace(SHORT, connections=100, idle=3.0)
    with serving(FakeWatch(), limits=limits) as server, contextlib.ExitStack() as open_ones:
        idle = []
        for number in range(1000):
            idle.append(open_ones.enter_context(server.connect()))
            if number % 100 == 99:
                assert answers(server)
        assert all(is_closed(connection) for connection in idle)


def test_a_new_client_is_served_while_all_others_receive_responses() -> None:
    limits = dataclasses.replace(SHORT, connections=5, write=30, idle=30)
    with serving(FakeWatch(LARGE), limits=limits) as server, contextlib.ExitStack() as open_ones:
        for _ in range(12):
            reader = open_ones.enter_context(server.connect())
            reader.sendall(GET)  # and never reads
            assert reader.recv(1, socket.MSG_PEEK) == b"H"
            assert answers(server)


def test_no_more_connections_are_held_than_allowed() -> None:
    limits = dataclasses.replace(SHORT, connections=20, idle=60)
    with serving(FakeWatch(), limits=limits) as server, contextlib.ExitStack() as open_ones:
        idle = [open_ones.enter_context(server.connect()) for _ in range(60)]
        assert answers(server)
        # The oldest went to make room for the others.
        assert all(is_closed(connection) for connection in idle[:40])
        idle[-1].sendall(GET)
        assert first_line(idle[-1]) == b"HTTP/1.1 200 OK\r\n"


def test_a_client_that_never_reads_its_answer_is_closed() -> None:
    with serving(FakeWatch(LARGE), limits=SHORT) as server, server.connect() as reader:
        reader.sendall(GET)
        assert answers(server)
        until(lambda: not connections(), what="the close")  # the client cannot notice it without reading
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := reader.recv(1 << 20):
                received += len(chunk)
        assert received < len(LARGE)


def test_a_slow_reader_that_makes_progress_gets_everything(tls: tuple[Authority, WebConfigFile]) -> None:
    authority, web = tls
    limits = dataclasses.replace(SHORT, write=1.0)
    for file, wrap in ((None, None), (web, authority.trusting())):
        with serving(FakeWatch(LARGE), file, limits) as server, contextlib.ExitStack() as open_ones:
            plain = open_ones.enter_context(server.connect())
            reader = wrap.wrap_socket(plain, server_hostname="127.0.0.1") if wrap else plain
            open_ones.callback(reader.close)
            reader.sendall(GET)
            received = pauses = 0
            while received < len(LARGE):
                chunk = reader.recv(1 << 16)
                assert chunk, f"cut off after {received} bytes"
                received += len(chunk)
                if received >> 20 > pauses:
                    pauses += 1
                    time.sleep(0.12)  # 19 pauses: more than twice the limit in total


def test_clients_that_do_not_read_use_little_memory() -> None:
    limits = dataclasses.replace(SHORT, write=30, idle=30)
    with serving(FakeWatch(LARGE), limits=limits) as server, contextlib.ExitStack() as open_ones:
        assert answers(server)
        before = resident()
        for _ in range(20):
            reader = open_ones.enter_context(server.connect())
            reader.sendall(GET)
            assert reader.recv(1, socket.MSG_PEEK) == b"H"
        assert answers(server)
        assert resident() - before < 2 * len(LARGE)  # for 20 responses of that size


def resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_connections_that_are_reset_leave_nothing_behind() -> None:
    def left() -> int:
        gc.collect()
        return sum(isinstance(thing, Connection) for thing in gc.get_objects())  # including closed ones

    with serving(FakeWatch()) as server:
        for _ in range(200):
            with server.connect() as client:
                client.sendall(GET)
                client.recv(1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: left() <= 5, what="the release of closed connections")


def test_an_unfinished_tls_handshake_is_closed_and_does_not_block_others(tls: tuple[Authority, WebConfigFile]) -> None:
    authority, web = tls
    with serving(FakeWatch(), web, limits=SHORT) as server, server.connect() as silent, server.connect() as begun:
        begun.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01")  # the first bytes of a ClientHello
        with server.client(verify=authority.trusting()) as client:
            assert client.get("/metrics").status_code == 200
        assert is_closed(silent)
        assert is_closed(begun)


def test_a_tls_client_that_stops_sending_is_closed(tls: tuple[Authority, WebConfigFile]) -> None:
    authority, web = tls
    with (
        serving(FakeWatch(), web, limits=SHORT) as server,
        authority.trusting().wrap_socket(server.connect(), server_hostname="127.0.0.1") as silent,
    ):
        assert is_closed(silent)


def test_handshakes_beyond_the_limit_close_the_oldest_ones(tls: tuple[Authority, WebConfigFile]) -> None:
    authority, web = tls
    limits = dataclasses.replace(SHORT, handshakes=10, handshake=60)
    with serving(FakeWatch(), web, limits) as server, contextlib.ExitStack() as open_ones:
        silent = [open_ones.enter_context(server.connect()) for _ in range(50)]
        with server.client(verify=authority.trusting()) as client:
            assert client.get("/metrics").status_code == 200
        assert all(is_closed(connection) for connection in silent[:40])


def test_a_response_in_progress_is_finished_when_the_agent_stops() -> None:
    watch = FakeWatch()
    gate = watch.reload_gate = threading.Event()
    with contextlib.ExitStack() as open_ones:
        with serving(watch, limits=dataclasses.replace(SHORT, stop=60), lifecycle=True) as server:
            busy = open_ones.enter_context(server.connect())
            idle = open_ones.enter_context(server.connect())
            busy.sendall(b"POST /-/reload HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: watch.reloads, what="the reload")

            def answer_once_it_stops() -> None:
                with contextlib.suppress(OSError):  # refused once the stop has begun
                    while True:
                        server.connect().close()
                        time.sleep(0.01)
                gate.set()

            threading.Thread(target=answer_once_it_stops, daemon=True).start()
        assert first_line(busy) == b"HTTP/1.1 200 OK\r\n"
        assert is_closed(idle)
        with pytest.raises(OSError):  # noqa: PT011  refused
            server.connect()


def test_a_stop_waits_for_clients_only_up_to_its_limit() -> None:
    with contextlib.ExitStack() as open_ones:
        with serving(FakeWatch(LARGE), limits=dataclasses.replace(SHORT, write=3600, stop=0.3)) as server:
            reader = open_ones.enter_context(server.connect())
            reader.sendall(GET)
            assert reader.recv(1, socket.MSG_PEEK) == b"H"
        received = 0  # the server has stopped before this client reads anything
        with contextlib.suppress(ConnectionResetError):
            while chunk := reader.recv(1 << 20):
                received += len(chunk)
        assert received < len(LARGE)


def test_running_out_of_file_descriptors_closes_idle_connections_and_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError(24, "Too many open files")] * 3)
    real = asyncio.SelectorEventLoop.sock_accept

    async def sock_accept(loop: asyncio.SelectorEventLoop, sock: socket.socket) -> Any:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return await real(loop, sock)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_accept", sock_accept)
    with caplog.at_level(logging.INFO, "deckwatch.http"), serving(FakeWatch()) as server:
        assert answers(server)
    assert next(failures, None) is None
    assert [record.getMessage() for record in caplog.records] == [
        "cannot accept connections: Too many open files. Closing idle connections; raise the limit of open files "
        "(LimitNOFILE)."
    ]


def test_a_listen_error_is_one_clear_line() -> None:
    with bind("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^cannot listen on 127.0.0.1:{port}: the port is in use\. .*[^\n]$"):
            bind(f"127.0.0.1:{port}")
    with pytest.raises(
        ListenError, match=r"^cannot listen on 192.0.2.1:9797: the address does not belong to this host\. "
    ):
        bind("192.0.2.1:9797")
    with pytest.raises(ListenError, match=r"^cannot listen on nowhere.invalid:1: [^\n]+$"):
        bind("nowhere.invalid:1")


def test_a_privileged_port_is_rejected_with_an_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unprivileged(socket.socket):
        def bind(self, _address: Any) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Unprivileged)
    with pytest.raises(ListenError, match=r"^cannot listen on 127.0.0.1:80: ports below 1024 require privileges\. "):
        bind("127.0.0.1:80")


@pytest.mark.parametrize(
    ("listen", "shown"),
    [("127.0.0.1:0", "127.0.0.1:"), (":0", "localhost:"), ("0.0.0.0:0", "localhost:"), ("localhost:0", "")],
)
def test_the_address_is_shown_in_url_form(listen: str, shown: str) -> None:
    with bind(listen) as listening:
        assert address_of(listening).startswith(shown)
        with socket.create_connection(("localhost", listening.getsockname()[1]), timeout=60):
            pass


def test_an_application_error_is_logged_and_returns_500(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("a fault")

    with caplog.at_level(logging.INFO), serving(broken) as server, server.client() as client:
        assert client.get("/").status_code == 500
    assert [record.name for record in caplog.records] == ["deckwatch.http.protocol"]


def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO), serving(FakeWatch()) as server, server.client() as client:
        for path in ("/", "/metrics", "/nothing"):
            client.get(path)
    assert [record for record in caplog.records if not record.name.startswith("httpx")] == []
    assert capfd.readouterr() == ("", "")


@pytest.fixture(autouse=True)
def _quiet_client() -> Iterator[None]:
    level = logging.getLogger("httpx").level
    logging.getLogger("httpx").setLevel(logging.WARNING)
    yield
    logging.getLogger("httpx").setLevel(level)
