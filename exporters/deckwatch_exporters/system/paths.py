"""Where the kernel's files are, and how they are read. Roots are settings: a container can watch its host."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Paths:
    """The roots of `/proc`, `/sys`, `/` and udev's database as this process sees them."""

    proc: str = "/proc"
    sys: str = "/sys"
    root: str = "/"
    udev: str = "/run/udev/data"

    def in_proc(self, *parts: str) -> str:
        return os.path.join(self.proc, *parts)

    def in_sys(self, *parts: str) -> str:
        return os.path.join(self.sys, *parts)

    def in_root(self, path: str) -> str:
        """`path` of the watched host as this process sees it: below the root mount."""
        return path if self.root == "/" else self.root.rstrip("/") + "/" + path.lstrip("/")


def read_text(path: str) -> str:
    """The whole file as text; bytes that are not UTF-8 survive as surrogates.

    Reads with `os.read`, at a third of the cost of `open()`: a cycle reads some hundred of these files.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = [os.read(fd, 65536)]
        while chunks[-1]:
            chunks.append(os.read(fd, 65536))
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def read_piece(path: str) -> str:
    """A file that the kernel prints in one piece, as it does all of sysfs' attributes and /proc/<pid>/stat.

    In one read: where several hundred of them are read, a second one that only finds the end is a fifth of the cost.
    Not for what has a record for each line, which comes in pieces of a page (fs/seq_file.c).
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def read_value(path: str) -> str | None:
    """The stripped content of a one-value file of sysfs; None where it is absent or the driver refuses to tell."""
    try:
        return read_piece(path).strip()
    except OSError:
        # sysfs attributes answer ENODEV, EINVAL, EIO, EOPNOTSUPP or ENODATA for "not known here".
        return None


def read_number(path: str) -> float | None:
    """Like `read_value`, as a number; None also for what is not one."""
    text = read_value(path)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def list_dir(path: str) -> list[str]:
    """The names in a folder, sorted; empty where it does not exist."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
