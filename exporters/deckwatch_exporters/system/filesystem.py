"""Space, inodes and state of mounted file systems, from mountinfo (proc_pid_mountinfo(5)) and statvfs(3).

statvfs on a dead network mount can block for ever, and nothing can interrupt it. All calls of a run are made in one
thread; when it does not come back in time, the mount that it is stuck on is reported as an error, and left alone until
its thread returns.
"""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.config import Duration, Settings
from deckwatch.metric import gauge

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deckwatch.metric import Sample

_LABELS = ("device", "fstype", "mountpoint")

SIZE = gauge("node_filesystem_size_bytes", "Size of the file system, in bytes.", _LABELS)
FREE = gauge("node_filesystem_free_bytes", "Free space of the file system, in bytes.", _LABELS)
AVAIL = gauge("node_filesystem_avail_bytes", "Space available to others than root, in bytes.", _LABELS)
FILES = gauge("node_filesystem_files", "Inodes of the file system.", _LABELS)
FILES_FREE = gauge("node_filesystem_files_free", "Free inodes of the file system.", _LABELS)
READONLY = gauge("node_filesystem_readonly", "Whether the file system is mounted read-only.", _LABELS)
DEVICE_ERROR = gauge(
    "node_filesystem_device_error", "Whether the file system could not be asked, or did not answer in time.", _LABELS
)
MOUNT_INFO = gauge(
    "node_filesystem_mount_info", "Device numbers of the mount.", ("device", "major", "minor", "mountpoint")
)

_OCTAL = re.compile(r"\\([0-7]{3})")


class FilesystemSettings(Settings):
    """Which mounts are left out, and how long (seconds) one may take to answer. Defaults are node_exporter's."""

    mount_points_exclude: re.Pattern[str] = re.compile(
        r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    )
    fs_types_exclude: re.Pattern[str] = re.compile(
        "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay"
        "|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$"
    )
    timeout: Duration = 5.0


class Mount(NamedTuple):
    device: str
    point: str
    fstype: str
    readonly: bool
    major: str
    minor: str


class Filesystem:
    def __init__(
        self,
        paths: Paths,
        settings: FilesystemSettings,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._paths = paths
        self._settings = settings
        self._statvfs = statvfs
        self._stuck: dict[str, threading.Thread] = {}  # by mount point; the thread that does not come back

    def collect(self) -> Iterator[Sample]:
        mounts = list(self._wanted())
        answers = self._ask([mount.point for mount in mounts])
        for mount in mounts:
            labels = {"device": mount.device, "fstype": mount.fstype, "mountpoint": mount.point}
            answer = answers.get(mount.point)
            yield DEVICE_ERROR(answer is None, **labels)
            yield READONLY(mount.readonly, **labels)
            yield MOUNT_INFO(1, device=mount.device, major=mount.major, minor=mount.minor, mountpoint=mount.point)
            if answer is None:
                continue
            yield SIZE(answer.f_blocks * answer.f_frsize, **labels)
            yield FREE(answer.f_bfree * answer.f_frsize, **labels)
            yield AVAIL(answer.f_bavail * answer.f_frsize, **labels)
            yield FILES(answer.f_files, **labels)
            yield FILES_FREE(answer.f_ffree, **labels)

    def _wanted(self) -> Iterator[Mount]:
        try:
            text = read_text(self._paths.in_proc("1", "mountinfo"))
        except (FileNotFoundError, PermissionError):
            text = read_text(self._paths.in_proc("self", "mountinfo"))
        seen = set()
        prefix = "" if self._paths.root == "/" else self._paths.root.rstrip("/")
        for mount in parse_mountinfo(text):
            point = mount.point
            if prefix and (point == prefix or point.startswith(prefix + "/")):
                point = point.removeprefix(prefix) or "/"
            key = (mount.device, mount.fstype, point)
            if (
                key not in seen
                and not self._settings.mount_points_exclude.search(point)
                and not self._settings.fs_types_exclude.search(mount.fstype)
            ):
                seen.add(key)
                yield mount._replace(point=point)

    def _ask(self, points: Sequence[str]) -> dict[str, os.statvfs_result]:
        self._stuck = {point: thread for point, thread in self._stuck.items() if thread.is_alive()}
        left = [point for point in points if point not in self._stuck]
        answers: dict[str, os.statvfs_result] = {}
        while left:
            walk = _Walk(left, self._paths, self._statvfs)
            walk.start()
            walk.join(self._settings.timeout)
            answers.update(walk.answers)
            if not walk.is_alive():
                break
            stuck = left[walk.position]
            self._stuck[stuck] = walk
            left = left[walk.position + 1 :]
        return answers


class _Walk(threading.Thread):
    """Asks one mount after the other. `position` is the one that it is at; read it before `answers`."""

    def __init__(self, points: Sequence[str], paths: Paths, statvfs: Callable[[str], os.statvfs_result]) -> None:
        super().__init__(daemon=True, name="statvfs")
        self._points = points
        self._paths = paths
        self._statvfs = statvfs
        self._called_off = False
        self.position = 0
        self.answers: dict[str, os.statvfs_result] = {}

    def join(self, timeout: float | None = None) -> None:
        super().join(timeout)
        self._called_off = self.is_alive()

    def run(self) -> None:
        for position, point in enumerate(self._points):
            self.position = position
            try:
                answer = self._statvfs(self._paths.in_root(point))
            except OSError:
                continue  # no answer is what is reported
            if self._called_off:
                return
            self.answers[point] = answer


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts of a mountinfo file, with escapes such as `\\040` undone. Raises ValueError."""
    mounts = []
    for line in filter(None, text.split("\n")):
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            raise ValueError(f"mountinfo: not a mount: {line[:80]!r}")
        major, _, minor = fields[2].partition(":")
        readonly = "ro" in fields[5].split(",") or "ro" in rest[2].split(",")
        mounts.append(Mount(_plain(rest[1]), _plain(fields[4]), _plain(rest[0]), readonly, major, minor))
    return mounts


def _plain(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), field) if "\\" in field else field
