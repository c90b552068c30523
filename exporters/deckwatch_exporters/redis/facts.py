"""What the collector `redis` learns about its server and other collectors of the target need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Facts:
    """The state as of the last run of the collector `redis`; unknown values are empty."""

    version: tuple[int, ...] = ()
    run_id: str = ""
    newest_slow_id: int | None = None  # -1 if the slow log is empty
    server_time: float | None = None  # Unix seconds, by the server's clock
    databases: tuple[int, ...] = ()  # those that hold keys

    def forget(self) -> None:
        """Drop what may differ at the server that answers next."""
        self.newest_slow_id = None
        self.server_time = None
