"""What one probe of a target learns about its server, and the others want to know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Facts:
    """As of the last run of the probe `redis`; what is not known is empty."""

    version: tuple[int, ...] = ()
    run_id: str = ""
    newest_slow_id: int | None = None  # -1 where the slow log is empty
    server_time: float | None = None  # Unix seconds, by the server's clock
    databases: tuple[int, ...] = ()  # those that hold keys

    def forget(self) -> None:
        """The server does not answer: what is told of it next may be told of another one."""
        self.newest_slow_id = None
        self.server_time = None
