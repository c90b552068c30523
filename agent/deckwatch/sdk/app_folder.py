"""Metrics in files that the agent reads, in the folder `DECKWATCH_APP_DIR`.

The files are in the folder of the service (`DECKWATCH_SERVICE`). Each process that counts holds a lock on
`{process}.lock` there while it runs, so that the agent knows when it has ended, even in another namespace of process
ids.
"""

import contextlib
import fcntl
import functools
import logging
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

from .garbage_collection import Collections
from .shared_memory import SharedFiles, shared_value_class

_MIN_FREE = 128 * 1024  # bytes


@functools.cache
def use_app_folder() -> None:
    """Let prometheus_client keep values in shared files if `DECKWATCH_APP_DIR` is set, before instruments are made.

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
    folder = os.path.join(parent.rstrip("/"), service_name())
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(0, "cannot be written to")
        free = os.statvfs(folder)
        if free.f_bavail * free.f_frsize < _MIN_FREE:
            raise OSError(0, f"less than {_MIN_FREE // 1024} KiB is free")
    except OSError as failure:
        logging.getLogger("deckwatch").warning(
            "metrics are not shared with the agent: %s: %s. Check DECKWATCH_APP_DIR.", folder, failure.strerror
        )
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    from prometheus_client import values

    sign = _Sign(folder)

    def forked() -> None:
        sign.release()
        _renew_locks()

    files = SharedFiles(folder, sign.take, forked)
    os.register_at_fork(after_in_child=files.after_fork)
    value_class = shared_value_class(files)
    values.ValueClass = value_class
    Collections(files, value_class).start()


def service_name() -> str:
    """The name of the service: `DECKWATCH_SERVICE`, or the name of the program."""
    name = os.environ.get("DECKWATCH_SERVICE") or Path(sys.argv[0] or "app").stem
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".") or "app"


class _Sign:
    """The lock that says that this process runs."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._held: list[tuple[int, int]] = []  # descriptors and inodes

    def take(self, process: str) -> None:
        """Raises OSError."""
        path = os.path.join(self._folder, f"{process}.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._held.append((descriptor, os.fstat(descriptor).st_ino))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Give up the parent's lock, which a child shares."""
        held, self._held = self._held, []
        for descriptor, inode in held:
            with contextlib.suppress(OSError):
                if os.fstat(descriptor).st_ino == inode:  # otherwise the program has closed it
                    os.close(descriptor)


def _renew_locks() -> None:
    """Replace the locks of metrics, which threads of the parent may have held at the fork."""
    from prometheus_client import REGISTRY
    from prometheus_client.metrics import MetricWrapperBase

    REGISTRY._lock = threading.Lock()
    metrics: list[Any] = [metric for metric in REGISTRY._collector_to_names if isinstance(metric, MetricWrapperBase)]
    for metric in metrics:
        for one in (metric, *metric._metrics.values()) if metric._is_parent() else (metric,):
            if hasattr(one, "_lock"):
                one._lock = threading.RLock()
