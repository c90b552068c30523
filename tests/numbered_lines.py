"""Numbered log lines. As a program, writes them to a rotated file:

    numbered_lines.py PATH WRITER BEGIN RATE PERIOD BACKUPS

writes RATE lines per second and renames the file every PERIOD seconds like Python's RotatingFileHandler (BACKUPS are
kept). On SIGTERM, it prints the number of lines written and exits.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple


class Numbered(NamedTuple):
    """The lines of one writer, `step` nanoseconds apart, starting at `begin` (Unix nanoseconds).

    Every tenth line has no timestamp, so it would be stored twice if it were read twice.
    """

    writer: str
    begin: int
    step: int = 50_000
    level: str = "INFO"

    def line(self, number: int) -> str:
        fields = f'"level": "{self.level}", "writer": "{self.writer}", "n": {number}}}'
        if number % 10 == 9:
            return "{" + fields
        seconds, fraction = divmod(self.begin + number * self.step, 1_000_000_000)
        moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f'{{"timestamp": "{moment}.{fraction:09}Z", {fields}'

    def lines(self, begin: int, end: int) -> list[str]:
        return [self.line(number) for number in range(begin, end)]


def rotate(path: Path, backups: int) -> None:
    """Rename the file to PATH.1, that one to PATH.2, and so on."""
    for number in range(backups - 1, 0, -1):
        source = Path(f"{path}.{number}")
        if source.exists():
            source.rename(f"{path}.{number + 1}")
    path.rename(f"{path}.1")


def main() -> None:
    path, writer, begin = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    rate, period, backups = float(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
    numbered = Numbered(writer, begin, int(1e9 / rate))
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    started = time.monotonic()
    number = 0
    while not ending:
        rotate_at = time.monotonic() + period
        with path.open("ab", buffering=0) as log:
            while not ending and time.monotonic() < rotate_at:
                due = int((time.monotonic() - started) * rate)
                text = "".join(f"{line}\n" for line in numbered.lines(number, due)).encode()
                number = due
                half = random.randrange(len(text) + 1)  # most writes end in the middle of a line
                for part in (text[:half], text[half:]):
                    while part:
                        part = part[os.write(log.fileno(), part) :]
                time.sleep(0.005)
        if not ending:
            rotate(path, backups)
    print(number)


if __name__ == "__main__":
    main()
