"""What the benchmarks measure with: CPU and memory of a process, and a scraper that costs little itself."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Scraper:
    """A keep-alive connection that asks for /metrics as Prometheus does, and takes no answer apart."""

    def __init__(self, port: int, accept: str = PROMETHEUS_ACCEPT, name: str = "bench") -> None:
        self._port = port
        self._request = (
            f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: Prometheus/{name}\r\n"
            f"Accept: {accept}\r\nAccept-Encoding: gzip\r\n\r\n"
        ).encode()
        self._socket: socket.socket | None = None

    def scrape(self) -> int:
        """The length of the body. Connects anew where the server closed meanwhile."""
        for _ in range(2):
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=10)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._socket.sendall(self._request)
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
        while not body.endswith(b"0\r\n\r\n"):  # chunked, as Go sends what it compresses
            body += self._receive()
        return len(body)

    def _receive(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(1 << 20)
        if not data:
            raise EOFError
        return data


def scrape_regularly(scrapers: Iterable[Scraper], period: float, times: int) -> None:
    """Each scraper once in each period, at phases of its own."""
    scrapers = list(scrapers)
    began = time.monotonic()
    for number in range(times):
        for index, scraper in enumerate(scrapers):
            due = began + (number + index / max(2, len(scrapers))) * period
            time.sleep(max(0.0, due - time.monotonic()))
            scraper.scrape()


def quantile(values: Sequence[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]
