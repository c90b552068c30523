"""What one client may cost, in seconds and in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits that keep one client from harming the others. Times are in seconds."""

    idle: float = 10.0  # without a complete request: after connecting, within the headers, between requests
    handshake: float = 10.0
    write: float = 10.0  # without any progress in sending an answer
    connections: int = 512
    handshakes: int = 128  # TLS connections that are not up yet
    header_bytes: int = 16 * 1024
    header_lines: int = 128  # parsing costs by the line, not by the byte
    answer_bytes: int = 64 * 1024 * 1024  # of all answers that are being sent; answers share their bodies
    stop: float = 2.0  # for answers that are under way when the agent stops
    sweep: float = 1.0
