"""The process's limit of open files, and what it is divided among: clients, followed log files, targets."""

from __future__ import annotations

import contextlib
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Config

#: No use is known for more, and some kernels allow a billion.
_MOST = 65_536
_OWN = 64  # the listener, the event loop, libraries that are opened, files below /proc that are kept open
_CLIENTS = 32
_OF_TARGET = 2  # its connection, and a new one before the old one is closed
_OF_LOG_RULE = 2
_OF_DESTINATION = 3  # its connection, its place in the spool, the segment that it reads
_MAX_LOG_FILES = 500


def raise_limit() -> None:
    """Raise the soft limit to the hard one: many systems have 1024 as the soft one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a seccomp filter may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def log_files(rules: int) -> int:
    """How many files each of the entries of `logs.files` may hold open: a quarter of the limit, shared by all.

    Half of the limit is for clients, the rest for targets. Files beyond it are opened for each read.
    """
    return max(1, min(_MAX_LOG_FILES, _limit() // 4) // max(1, rules))


def shortage(config: Config) -> str:
    """Say that the limit is too low for a config, and what to do; `` if it is not."""
    needed = _OWN + _CLIENTS + _OF_TARGET * len(config.targets)
    if config.logs is not None:
        needed += _OF_LOG_RULE * len(config.logs.files) + _OF_DESTINATION * len(config.logs.destinations)
    if needed <= (limit := _limit()):
        return ""
    return (
        f"the limit of open files is {limit}, and this config needs at least {needed}. "
        "Raise it with `ulimit -Hn 4096`, or with LimitNOFILE=4096 in the systemd unit"
    )


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft
