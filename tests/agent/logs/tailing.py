"""A reader of a tail that, like the pipeline, saves lines and positions together."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.tailing.discovery import Discovery
from deckwatch.logs.tailing.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deckwatch.logs.entry import Position


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class RealClock(Clock):
    def __call__(self) -> float:
        return time.monotonic()


class Reader:
    def __init__(
        self,
        path: Path | str,
        exclude: Sequence[str] = (),
        max_line: int = 256 * 1024,
        clock: Clock | None = None,
        other_rules: Sequence[str] = (),
    ) -> None:
        self.settings = FileSettings(path=str(path), exclude=tuple(exclude), max_line_bytes=max_line)
        self.problems: list[tuple[str, str]] = []
        self.kept: list[tuple[str, bytes]] = []  # path and line
        self.positions: dict[str, Position] = {}
        self.clock = Clock() if clock is None else clock
        self.other_rules = [Discovery(other, (), lambda _path, _message: None) for other in other_rules]
        self.tail = self._tail()

    def _tail(self) -> Tail:
        return Tail(
            self.settings,
            self.positions,
            lambda path, message: self.problems.append((path, message)),
            self.clock,
            other_rules=self.other_rules,
        )

    @property
    def lines(self) -> list[bytes]:
        return [line for _, line in self.kept]

    def poll(self, seconds: float = 0.25, max_bytes: int = 256 * 1024, commit: bool = True) -> list[bytes]:
        """Advance the clock, read all available lines and save them."""
        self.clock.now += seconds
        self.tail.poll()
        new: list[bytes] = []
        while ready := list(self.tail.ready()):
            for file in ready:
                chunk = self.tail.read(file, max_bytes)
                newline = 2 if file.encoding == "utf-16" else 1
                sizes = sum(len(line) + chunk.cut.get(index, 0) + newline for index, line in enumerate(chunk.lines))
                assert chunk.end - chunk.start in (sizes, sizes - newline)
                new += chunk.lines
                if commit:
                    self.kept += [(file.path, line) for line in chunk.lines]
                    self.tail.commit(file, chunk.end)
        if commit:
            self.positions = self.tail.positions()  # also of files that are empty
        return new

    def poll_for(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.25)):
            self.poll()

    def restart(self) -> None:
        """Discard uncommitted lines, as after a kill."""
        self.tail.close()
        self.tail = self._tail()

    def read_some_and_die(self) -> None:
        """Read without committing all of it."""
        self.clock.now += 0.25
        self.tail.poll()
        for file in self.tail.ready():
            chunk = self.tail.read(file, 4096)
            taken = random.randrange(len(chunk.lines) + 1)
            self.kept += [(file.path, line) for line in chunk.lines[:taken]]
            end = chunk.start + sum(len(line) + 1 for line in chunk.lines[:taken])
            self.tail.commit(file, end if taken < len(chunk.lines) else chunk.end)
        self.positions = self.tail.positions()
        self.restart()
