"""Reading a file that must be a regular one: a pipe without a writer would block the reader."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_regular_file(file: Path, largest: int) -> bytes:
    """The content, up to one byte more than `largest`. Raises OSError, for what is not a regular file too."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = b""
        while len(content) <= largest and (part := os.read(descriptor, largest + 1 - len(content))):
            content += part
        return content
    finally:
        os.close(descriptor)
