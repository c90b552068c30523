"""Clients that read responses slowly or not at all use little memory and do not lock out others."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from agent.serving import GET, FakeWatch, Server, serving
from deckwatch.http.limits import Limits

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from deckwatch.collection.board import Selection

MEGABYTE = 1024 * 1024
BODY = 8 * MEGABYTE  # more than the kernel buffers for a client that does not read
LIMITS = Limits(idle=60, write=60, sweep=0.05, response_bytes=3 * BODY)


class ChangingWatch(FakeWatch):
    """An agent whose metrics differ at each scrape."""

    def scrape(self, selection: Selection, openmetrics: bool, compress: bool, client: str) -> Sequence[bytes]:
        super().scrape(selection, openmetrics, compress, client)
        number = b"%9d\n" % len(self.asked)
        return (number * (BODY // len(number)), b"age 1\n")


def ask(server: Server, open_ones: contextlib.ExitStack, source: str = "") -> tuple[socket.socket, bytes]:
    """A client that reads only the first line of its response."""
    client = open_ones.enter_context(server.connect(source))
    client.settimeout(30)
    client.sendall(GET)
    return client, client.recv(12)


def resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read_all(client: socket.socket) -> int:
    received = 0
    with contextlib.suppress(ConnectionResetError):
        while received < BODY and (part := client.recv(MEGABYTE)):
            received += len(part)
    return received


def test_responses_share_their_body() -> None:
    watch = FakeWatch(b"x" * BODY)
    with serving(watch, limits=LIMITS) as server, contextlib.ExitStack() as open_ones:
        before = resident()
        assert {ask(server, open_ones)[1] for _ in range(30)} == {b"HTTP/1.1 200"}
        assert resident() - before < 4 * BODY


def test_many_slow_readers_of_changing_responses_hold_a_limited_number_of_bytes() -> None:
    limits = Limits(idle=60, write=60, sweep=0.05)
    with serving(ChangingWatch(), limits=limits) as server, contextlib.ExitStack() as open_ones:
        before = resident()
        answers = [ask(server, open_ones)[1] for _ in range(100)]
        assert set(answers) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
        assert resident() - before < 2 * limits.response_bytes


def test_beyond_the_limit_a_client_must_retry_and_is_served_once_memory_is_free() -> None:
    with serving(ChangingWatch(), limits=LIMITS) as server, contextlib.ExitStack() as open_ones:
        first = [ask(server, open_ones) for _ in range(2)]
        refused = open_ones.enter_context(server.connect())
        refused.sendall(GET)
        refused.settimeout(30)
        answer = b""
        while not answer.endswith(b"try again later\n"):
            part = refused.recv(4096)
            assert part, answer
            answer += part
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 10\r\n" in answer
        for client, status in first:
            assert status == b"HTTP/1.1 200"
            assert read_all(client) >= BODY
        assert ask(server, open_ones)[1] == b"HTTP/1.1 200"


def test_slow_readers_at_one_address_do_not_lock_out_another() -> None:
    with serving(ChangingWatch(), limits=LIMITS) as server, contextlib.ExitStack() as open_ones:
        slow = [ask(server, open_ones) for _ in range(5)]
        assert [status for _, status in slow][:2] == [b"HTTP/1.1 200"] * 2
        scraper, status = ask(server, open_ones, "127.0.0.2")
        assert status == b"HTTP/1.1 200"
        assert read_all(scraper) >= BODY


def test_small_responses_and_other_pages_are_served_beyond_the_limit() -> None:
    with serving(ChangingWatch(), limits=LIMITS) as server, contextlib.ExitStack() as open_ones:
        while ask(server, open_ones)[1] == b"HTTP/1.1 200":
            pass
        with server.client() as client:
            for path in ("/", "/-/healthy", "/api/v1/status", "/metrics?target=nobody"):
                assert client.get(path).status_code in (200, 400)
            assert client.head("/metrics").status_code == 200


def test_a_long_running_response_is_aborted_to_free_memory() -> None:
    limits = Limits(idle=60, write=0.0, sweep=3600, response_bytes=3 * BODY)
    with serving(ChangingWatch(), limits=limits) as server, contextlib.ExitStack() as open_ones:
        assert [ask(server, open_ones)[1] for _ in range(10)] == [b"HTTP/1.1 200"] * 10
