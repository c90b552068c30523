"""Measurement tools of the benchmarks: CPU time and memory of a process, and a low-overhead scraper."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds until an agent with an interval of 15 s has adapted to the scraper's period.
SETTLE = 20.0
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, also of those that have ended, in nanosecond resolution.

    Reads the scheduler's clock of the process: the id of the clock is made as clock_getcpuclockid(3) does.
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Scraper:
    """A keep-alive connection that scrapes like Prometheus, but does not parse responses."""

    def __init__(self, port: int, accept: str = PROMETHEUS_ACCEPT, name: str = "bench") -> None:
        self._port = port
        self._headers = (
            f" HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: Prometheus/{name}\r\n"
            f"Accept: {accept}\r\nAccept-Encoding: gzip\r\n\r\n"
        )
        self._socket: socket.socket | None = None

    def scrape(self, path: str = "/metrics") -> int:
        """Scrape and return the length of the body. Reconnects if the server closed the connection."""
        request = f"GET {path}{self._headers}".encode()
        for _ in range(2):
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._socket.sendall(request)
                return self._read()
            except (ConnectionError, EOFError):
                self._socket.close()
                self._socket = None
        raise ConnectionError("the server closes every connection")

    def _read(self) -> int:
        assert self._socket is not None
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        headers = head.lower()
        assert headers.startswith(b"http/1.1 200"), head[:100]
        if b"content-length:" in headers:
            length = int(headers.split(b"content-length:")[1].split(b"\r\n")[0])
            while len(body) < length:
                body += self._receive()
            return length
        while not body.endswith(b"0\r\n\r\n"):  # Go sends compressed responses chunked
            body += self._receive()
        return len(body)

    def _receive(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(1 << 20)
        if not data:
            raise EOFError
        return data


class Scraping:
    """Run scrapers until the block ends. Each scrapes every program once per period, at its own phase."""

    def __init__(self, ports: Sequence[int], period: float, scrapers: int = 1) -> None:
        self._clients = [Scraper(port, name=str(number)) for port in ports for number in range(scrapers)]
        self._period = period
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Scraping:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        for number in itertools.count():
            for index, client in enumerate(self._clients):
                due = began + (number + index / max(2, len(self._clients))) * self._period
                if self._done.wait(max(0.0, due - time.monotonic())):
                    return
                client.scrape()


def cpu_of_a_cycle(pids: Sequence[int], ports: Sequence[int], period: float, cycles: int, scrapers: int = 1) -> float:
    """Return the programs' total CPU milliseconds to collect everything once and serve each scraper."""
    with Scraping(ports, period, scrapers):
        time.sleep(SETTLE)
        before = sum(map(cpu_seconds, pids))
        time.sleep(period * cycles)
        return (sum(map(cpu_seconds, pids)) - before) / cycles * 1000


def quantile(values: Sequence[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]
