"""The roots of the kernel's file systems, and reading their files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from .parse_numbers import parse_decimal, parse_unsigned

if TYPE_CHECKING:
    from .parse_numbers import MalformedValues

#: How a driver says that it does not know a value: `<unknown>`, `<unsupported>`.
_NOT_KNOWN = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Paths:
    """The roots of `/proc`, `/sys`, `/` and udev's database as this process sees them.

    In a container, the host's file systems are mounted elsewhere.
    """

    proc: str = "/proc"
    sys: str = "/sys"
    root: str = "/"
    udev: str = "/run/udev/data"

    def in_proc(self, *parts: str) -> str:
        return os.path.join(self.proc, *parts)

    def in_sys(self, *parts: str) -> str:
        return os.path.join(self.sys, *parts)

    def in_root(self, path: str) -> str:
        """The host's `path` as this process sees it."""
        return path if self.root == "/" else self.root.rstrip("/") + "/" + path.lstrip("/")


def read_text(path: str, errors: str = "backslashreplace") -> str:
    """Read a whole file as text. Raises OSError.

    Bytes that are not UTF-8 become `\\xNN`, so that names that differ only in such bytes stay different labels. To use
    a name from the file as a path, read it with `errors="surrogateescape"` and make its label with `printable()`.
    """
    return read_bytes(path).decode("utf-8", errors)


def read_bytes(path: str) -> bytes:
    """Read a whole file. Raises OSError.

    `os.read` takes a third of the time of `open()`, and a run reads several hundred files.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = [os.read(fd, 65536)]
        while chunks[-1]:
            chunks.append(os.read(fd, 65536))
    finally:
        os.close(fd)
    return b"".join(chunks)


def read_at_once(path: str, errors: str = "backslashreplace") -> str:
    """Read a file that the kernel returns in a single read: a sysfs attribute or /proc/<pid>/stat. Raises OSError.

    Saves the second read, which only finds the end of the file. Files with one record per line come in several pieces
    (fs/seq_file.c).
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode("utf-8", errors)
    finally:
        os.close(fd)


def read_value(path: str, errors: str = "backslashreplace") -> str | None:
    """Read a one-value file of sysfs without surrounding blanks; None where the file or its value is not available."""
    try:
        return read_at_once(path, errors).strip()
    except OSError:
        # A sysfs attribute without a value answers ENODEV, EINVAL, EIO, EOPNOTSUPP or ENODATA.
        return None


def read_number(path: str, malformed: MalformedValues) -> float | None:
    """Read a one-value file as a number that may be negative; None where it has no value."""
    text = read_value(path)
    return parse_decimal(text, path, malformed) if has_value(text) else None


def read_unsigned(path: str, malformed: MalformedValues) -> int | None:
    """Read a one-value file as an unsigned number; None where it has no value."""
    text = read_value(path)
    return parse_unsigned(text, path, malformed) if has_value(text) else None


def has_value(text: str | None) -> TypeGuard[str]:
    """Whether a one-value file has a value: it is not empty and not `<unknown>` or the like."""
    return text is not None and text != "" and _NOT_KNOWN.fullmatch(text) is None


def list_dir(path: str) -> list[str]:
    """The names in a folder, sorted; empty if it does not exist. Use `printable()` to make a label of a name."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def printable(name: str) -> str:
    """A file name as a label: bytes that are not UTF-8 become `\\xNN`."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")
