"""A separate process that writes to a spool until it is killed or reaches a limit.

`spool_writer.py FOLDER append` appends numbered records as fast as it can, until 4 MiB are pending.
`spool_writer.py FOLDER ship` also reads, acknowledges and releases them in a second thread.
`spool_writer.py FOLDER limited BYTES` limits the file size to BYTES, and prints the result.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
from pathlib import Path

from deckwatch.logs.spool.spool import Cursor, Reader, Spool


def payload(number: int) -> bytes:
    """Return the payload of a number. Its length depends on the number."""
    return b"%d " % number + b"x" * (number * 7919 % 3000)


def number_in(data: bytes) -> int:
    number = int(data.split(b" ", 1)[0])
    assert data == payload(number)
    return number


def opened(folder: Path) -> Spool:
    return Spool(folder, 64 * 1024**2, "block", 64 * 1024, lambda *_: None)


def append(folder: Path, ships: bool) -> None:
    spool = opened(folder)
    reader = spool.reader("loki")
    number = max((number_in(data) for _, data in spool.records()), default=-1) + 1
    if ships:
        threading.Thread(target=ship, args=(reader,), daemon=True).start()
    while True:
        place = spool.append(payload(number))
        number += 1
        if number % 100 == 0:
            spool.sync()
            if ships:
                spool.release(place)
            while spool.bytes > 4 * 1024**2:  # enough for a reader
                spool.wait(0.1)


def ship(reader: Reader) -> None:
    while True:
        for place, _ in reader.read(10_000, 1.0)[-1:]:
            reader.acknowledge(place)


def limited(folder: Path, most: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    spool = opened(folder)
    places: list[Cursor] = []
    error = 0
    try:
        places.extend(spool.append(payload(number)) for number in range(1000))
    except OSError as failed:
        error = failed.errno or 0
    size = max(path.stat().st_size for path in folder.glob("*.log")) if places else 0
    end = spool.end
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    spool.append(payload(len(places)))
    numbers = [number_in(data) for _, data in spool.records()]
    spool.close()
    last = places[-1] if places else None
    print(json.dumps({"errno": error, "size": size, "end": end, "last": last, "numbers": numbers}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case [folder, "limited", most]:
            limited(Path(folder), int(most))
        case [folder, mode]:
            append(Path(folder), ships=mode == "ship")
