"""Runs a command while four processes keep the CPUs busy: `busy.py COMMAND ...`.

The kernel kills the busy processes when this program ends for any reason.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

BUSY = 4
_PR_SET_PDEATHSIG = 1


def busy(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    while os.getppid() == parent:  # the parent may have ended before this was set
        for _ in range(1_000_000):
            pass


def main() -> int:
    if sys.argv[1] == "--busy":
        busy(int(sys.argv[2]))
        return 0
    # Ctrl-C also reaches the command and the process that waits for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load = [subprocess.Popen([sys.executable, __file__, "--busy", str(os.getpid())]) for _ in range(BUSY)]
    try:
        command = subprocess.Popen(sys.argv[1:], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        signal.signal(signal.SIGTERM, lambda *_: command.terminate())
        return command.wait()
    finally:
        for process in load:
            process.kill()
        for process in load:
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
