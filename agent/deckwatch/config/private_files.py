"""Folders and files of the state: for the agent's user alone, and never through a symbolic link.

A folder that only its owner may write to needs no more: nobody else can put a link into it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ROOT = 0


class NotPrivateError(OSError):
    """Somebody else could read or replace what is there; `strerror` says what to do."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(errno.EPERM, reason, path)


def make_private_folder(path: Path) -> None:
    """Make a folder, and the parents that are missing, with mode 0700 whatever the umask; tighten the mode of ours.

    Raises NotPrivateError for a symbolic link, and for a folder of another user, who could replace everything in it.
    """
    missing: list[Path] = []
    for folder in (path, *path.parents):
        if os.path.lexists(folder):
            break
        missing.append(folder)
    for folder in reversed(missing):
        _refuse_owner(os.stat(folder.parent), folder.parent)
        folder.mkdir(0o700)
        _tighten(folder)
        sync_folder(folder.parent)
    if not missing:
        _tighten(path)


def _tighten(folder: Path) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if folder.is_symlink():
            raise NotPrivateError("it is a symbolic link; name the folder itself", str(folder)) from None
        if error.errno == errno.EACCES and folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)  # made just now, with a umask that leaves its owner nothing
            return
        raise
    try:
        status = os.fstat(fd)
        _refuse_owner(status, folder)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def open_private(path: Path | str, flags: int) -> int:
    """Open a regular file and give it mode 0600.

    Raises NotPrivateError for a symbolic link, for what is no regular file, and for a file of another user.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotPrivateError("it is a symbolic link; remove it", str(path)) from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotPrivateError("it is not a regular file; remove it", str(path))
        _refuse_owner(status, path)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != 0o600:
            os.fchmod(fd, 0o600)
    except OSError:
        os.close(fd)
        raise
    return fd


def sync_folder(path: Path) -> None:
    """Make durable which names there are in it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refuse_owner(status: os.stat_result, path: Path | str) -> None:
    """Root's is accepted: volumes of containers are, and root needs no file to take the agent over."""
    if status.st_uid not in (_ROOT, os.geteuid()):
        raise NotPrivateError(
            f"it belongs to user {status.st_uid} and the agent runs as user {os.geteuid()}; "
            "chown it, or set --state-dir",
            str(path),
        )
