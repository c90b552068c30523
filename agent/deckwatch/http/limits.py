"""Timeouts and size limits for clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits that protect clients from each other. Times are in seconds."""

    idle: float = 10.0  # without a complete request: after connecting, and within the headers
    keep_alive: float = 75.0  # between two requests: longer than the usual intervals of scrapers, 15 to 60 s
    handshake: float = 10.0
    write: float = 10.0  # without progress in sending a response
    connections: int = 512
    handshakes: int = 128  # TLS handshakes in progress
    header_bytes: int = 16 * 1024
    header_lines: int = 128  # the cost of parsing depends on the number of lines, not bytes
    response_bytes: int = 64 * 1024 * 1024  # all responses in progress; shared bodies count once
    stop: float = 2.0  # for responses in progress when the agent stops
    sweep: float = 1.0  # interval of the check for idle and slow connections
