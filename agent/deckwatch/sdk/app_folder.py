"""Metrics in files that the agent reads: prometheus_client's multi-process mode, in the folder `DECKWATCH_APP_DIR`.

The files are in the folder of the service (`DECKWATCH_SERVICE`). Each process holds a lock on `{pid}.lock` there while
it runs, so that the agent knows when it has ended, even in another namespace of process ids.
"""

import contextlib
import fcntl
import functools
import logging
import os
import re
import sys
from pathlib import Path

_MIN_FREE = 1024 * 1024  # bytes; on a full file system, a write to mapped memory ends the process


@functools.cache
def use_app_folder() -> None:
    """Switch prometheus_client to multi-process mode if `DECKWATCH_APP_DIR` is set, before instruments are made.

    Only the first call has an effect.

    An application that set `PROMETHEUS_MULTIPROC_DIR` keeps its folder. If the folder cannot be used, this is logged
    and the metrics stay in the process.
    """
    parent = os.environ.get("DECKWATCH_APP_DIR")
    if not parent:
        return
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if given and os.path.dirname(given) != parent.rstrip("/"):
        return
    folder = os.path.join(parent.rstrip("/"), _service())
    sign = _Sign(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        free = os.statvfs(folder)
        if free.f_bavail * free.f_frsize < _MIN_FREE:
            raise OSError(0, "less than 1 MiB is free")
        sign.take()
    except OSError as failure:
        logging.getLogger("deckwatch").warning(
            "metrics are not shared with the agent: %s: %s. Check DECKWATCH_APP_DIR.", folder, failure.strerror
        )
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    os.register_at_fork(after_in_child=sign.after_fork)
    from prometheus_client import values

    if not values.ValueClass._multiprocess:  # prometheus_client was imported before the variable was set
        values.ValueClass = values.get_value_class()


def _service() -> str:
    """The name of the service: `DECKWATCH_SERVICE`, or the name of the program."""
    name = os.environ.get("DECKWATCH_SERVICE") or Path(sys.argv[0] or "app").stem
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "app"


class _Sign:
    """The lock that says that this process runs."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises OSError."""
        path = os.path.join(self._folder, f"{os.getpid()}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._descriptor = descriptor

    def after_fork(self) -> None:
        """Give up the parent's lock, which the child shares, and take one for the child."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with contextlib.suppress(OSError):
            self.take()
