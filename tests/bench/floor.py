"""The least that a cycle of the host can cost in Python: read the same files, split them, and join the numbers.

`python tests/bench/floor.py 15` does this every 15 seconds, in one thread of a process with the agent's imports.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
import time
from pathlib import Path

import orjson

from deckwatch_exporters.system.tcpstat import query_kernel

FILES = (
    "stat", "meminfo", "vmstat", "loadavg", "interrupts", "softirqs", "schedstat", "diskstats", "mdstat", "1/mountinfo",
    "net/dev", "net/netstat", "net/snmp", "net/snmp6", "net/sockstat", "net/sockstat6", "net/softnet_stat", "net/arp",
    "net/udp", "net/udp6", "pressure/cpu", "pressure/io", "pressure/memory", "sys/fs/file-nr",
    "sys/kernel/random/entropy_avail",
)  # fmt: skip
MOUNTS = ("/", "/dev", "/dev/shm", "/proc", "/sys")
SERIES = 900
_NUMBER = re.compile(rb"[0-9]+")
_SIZE = 65536


class Floor:
    """Keeps the files open, as the agent does."""

    def __init__(self) -> None:
        self._files = [os.open(f"/proc/{name}", os.O_RDONLY) for name in FILES if Path("/proc", name).exists()]
        self._processes: dict[str, int] = {}
        self._starts = [f'floor_value{{number="{number}"}} ' for number in range(SERIES)]

    def cycle(self) -> bytes:
        numbers: list[int] = []
        for descriptor in self._files:
            numbers += map(int, _NUMBER.findall(os.pread(descriptor, _SIZE, 0)))
        states = [self._state(pid) for pid in os.listdir("/proc") if pid.isdecimal()]
        blocks = [os.statvfs(mount).f_bavail for mount in MOUNTS]
        sockets = query_kernel()
        values = [len(states), *blocks, *(sockets.values() if sockets else ()), *numbers][:SERIES]
        written = orjson.dumps(values)[1:-1].decode().split(",")
        return "\n".join(map(str.__add__, self._starts, written)).encode()

    def _state(self, pid: str) -> bytes:
        try:
            if pid not in self._processes:
                self._processes[pid] = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
            text = os.pread(self._processes[pid], 4096, 0)
        except OSError:
            if pid in self._processes:
                os.close(self._processes.pop(pid))
            return b""
        return text[text.rfind(b")") + 2 :].split(b" ", 18)[0]


def main(period: float) -> None:
    importlib.import_module("deckwatch.cli.run")  # a larger heap has colder caches
    floor = Floor()
    floor.cycle()
    gc.collect()
    gc.freeze()
    sys.stdout.write(f"{len(floor.cycle().splitlines())} series\n")
    sys.stdout.flush()
    while True:
        time.sleep(period)
        floor.cycle()


if __name__ == "__main__":
    main(float(sys.argv[1]))
