"""Texts of 256 KiB that make a backtracking engine slow, each for a different reason."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 256 * 1024

#: Far above the 50 ms of the slowest one, and far below the minutes of catastrophic backtracking.
BLOW_UP = 10.0

PARTS = (
    "a",
    " ",
    "4",
    "é",
    '"',
    "{",
    "\\",
    "a@",
    "a@b.",
    "a@b.cc ",
    "4111 ",
    "4111 1111 1111 1111 ",
    "pwd=a ",
    'password="',
    'token=\\"',
    "Bearer ",
    "eyJ",
    "\\neyJaaaaa",
    "AKIA",
    "xoxb-",
    "://a:b",
    'a="',
    'a="\\',
    "\\u0041",
)
TEXTS = tuple(part * (SIZE // len(part.encode())) for part in PARTS)


def cpu_seconds(action: Callable[[], object]) -> float:
    """Return the CPU time that this thread needs for an action."""
    before = time.thread_time()
    action()
    return time.thread_time() - before
