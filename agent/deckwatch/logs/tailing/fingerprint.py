"""Recognize a file by its first bytes and by those before its read position.

Inode numbers are reused, and a copy has another one. Files of one program can begin with the same kilobyte.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import TYPE_CHECKING

from deckwatch.logs.entry import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Maximum number of bytes in a fingerprint.
FINGERPRINT_BYTES = 1024
#: Number of bytes before a read position that its fingerprint covers; fewer at the beginning of a file.
RECENT_BYTES = 256


class Replaced(OSError):
    """Another file has taken the path of the file."""


class NotRegular(OSError):
    """Not a regular file: opening it could block or have side effects."""


def identity_of(device: int, inode: int, head: bytes) -> Identity:
    """The identity of a file that begins with `head` (its first 1024 bytes, or all of a shorter file)."""
    head = head.rstrip(b"\0") or head  # NULs at the end can be space that is written to later
    return Identity(device, inode, len(head), fingerprint_of(head))


def fingerprint_of(data: bytes) -> str:
    """The fingerprint of some bytes of a file."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def identity_of_empty(status: os.stat_result) -> Identity:
    """Return the identity of an empty file. Its fingerprint is its mtime, which identifies files rotated after it."""
    return Identity(status.st_dev, status.st_ino, 0, str(status.st_mtime_ns))


def starts_as(head: bytes, identity: Identity) -> bool:
    """Whether a file that begins with `head` matches the fingerprint of `identity`."""
    length = identity.length
    if len(head) < length:
        return False
    if not length:
        return True
    return fingerprint_of(head[:length]) == identity.fingerprint


def is_prefix(fd: int, size: int, other: int) -> bool:
    """Whether an open file of `size` bytes has what the `other` open file begins with, by samples of both ends.

    NULs at its end count as well: a copy can have its full size before it has its content.
    """
    end = max(0, size - RECENT_BYTES)
    last = os.pread(fd, size - end, end)
    if last != os.pread(other, size - end, end) and last.strip(b"\0"):
        return False
    head = os.pread(fd, min(size, FINGERPRINT_BYTES), 0)
    return head == os.pread(other, len(head), 0)


@contextlib.contextmanager
def opened(path: str, inode: tuple[int, int] | None = None) -> Iterator[int]:
    """Open a file for a check. The value is its descriptor.

    Raises Replaced when the file at `path` has another inode than `inode`, NotRegular, and OSError as `open` does.
    """
    fd = open_regular(path)
    try:
        status = os.fstat(fd)
        if inode is not None and (status.st_dev, status.st_ino) != inode:
            raise Replaced(f"another file is at {path}")
        yield fd
    finally:
        os.close(fd)


def open_regular(path: str) -> int:
    """Open a regular file for reading and return the descriptor.

    Raises NotRegular, and OSError as `open` does.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise NotRegular(f"{path} is not a regular file")
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
