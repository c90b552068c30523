"""Recognize a file by its first bytes: inode numbers are reused, and a copy has another one."""

from __future__ import annotations

import hashlib
import os
import stat

from deckwatch.logs.entry import Identity

#: Maximum number of bytes in a fingerprint.
FINGERPRINT_BYTES = 1024


class Replaced(OSError):
    """Another file has taken the path of the file."""


class NotRegular(OSError):
    """Not a regular file: opening it could block or have side effects."""


def identity_of(device: int, inode: int, head: bytes) -> Identity:
    """The identity of a file that begins with `head` (its first 1024 bytes, or all of a shorter file)."""
    return Identity(device, inode, len(head), hashlib.blake2b(head, digest_size=8).hexdigest())


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
    return hashlib.blake2b(head[:length], digest_size=8).hexdigest() == identity.fingerprint


def starts_at(path: str, identity: Identity, inode: tuple[int, int] | None = None) -> bool:
    """Whether the file at `path` matches the fingerprint of `identity`. Raises as `head_of` does."""
    return starts_as(head_of(path, inode), identity)


def head_of(path: str, inode: tuple[int, int] | None = None) -> bytes:
    """Return the first bytes of a file for its fingerprint; b"" if it is not a regular file.

    Raises Replaced when the file at `path` has another inode than `inode`, and OSError as `open` does.
    """
    try:
        fd = open_regular(path)
    except NotRegular:
        return b""
    try:
        status = os.fstat(fd)
        if inode is not None and (status.st_dev, status.st_ino) != inode:
            raise Replaced(f"another file is at {path}")
        return os.pread(fd, FINGERPRINT_BYTES, 0)
    finally:
        os.close(fd)


def open_regular(path: str) -> int:
    """Open a regular file for reading and return the descriptor.

    Raises NotRegular, and OSError as `open` does.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise NotRegular(f"{path} is not a regular file")
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
