"""A program that writes numbered lines to a log file and rotates it: `log_writer.py MODE PATH SECONDS PERIOD BACKUPS`.

Line n is `{"n": n, "pad": ...}`. MODE is the rotation after each PERIOD seconds: `rename` (like Python's
RotatingFileHandler, keeping BACKUPS files), `copy` (like logrotate's copytruncate) or `delete`. Prints the number of
lines written.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from pathlib import Path


def shift(path: Path, backups: int) -> None:
    for number in range(backups - 1, 0, -1):
        source = Path(f"{path}.{number}")
        if source.exists():
            source.rename(f"{path}.{number + 1}")


def main() -> None:
    mode, path, seconds, period, backups = sys.argv[1], Path(sys.argv[2]), *map(float, sys.argv[3:6])
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        rotate_at = time.monotonic() + period * random.uniform(0.5, 1.5)
        with path.open("ab", buffering=0) as log:
            while time.monotonic() < rotate_at:
                for _ in range(random.randrange(1, 30)):
                    line = b'{"n": %d, "pad": "%s"}\n' % (number, b"x" * random.randrange(300))
                    number += 1
                    if random.random() < 0.05:  # a write that ends in the middle of a line
                        log.write(line[:7])
                        line = line[7:]
                    log.write(line)
                time.sleep(0.002)
            if mode == "delete":
                path.unlink()
                continue
            shift(path, int(backups))
            if mode == "copy":
                shutil.copyfile(path, f"{path}.1")
                os.truncate(path, 0)
            else:
                path.rename(f"{path}.1")
    print(number)


if __name__ == "__main__":
    main()
