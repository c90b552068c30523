"""Space, inodes and state of mounted file systems, from mountinfo (proc_pid_mountinfo(5)) and statvfs(3).

statvfs on a dead network mount can block for ever, and nothing can interrupt it. So the calls are not made in the
collector's own thread but in one that is left behind when it does not come back; the mount that it hangs on is reported
as an error, and not asked again before that thread has returned.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Duration, Gauge, Pattern, Settings

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deckwatch.exporter import Sample

#: `device_error` is why the file system has no figures, and empty where it has.
_LABELS = ("device", "fstype", "mountpoint", "device_error")

SIZE = Gauge("node_filesystem_size_bytes", "Size of the file system, in bytes.", _LABELS)
FREE = Gauge("node_filesystem_free_bytes", "Free space of the file system, in bytes.", _LABELS)
AVAIL = Gauge("node_filesystem_avail_bytes", "Space available to others than root, in bytes.", _LABELS)
FILES = Gauge("node_filesystem_files", "Inodes of the file system.", _LABELS)
FILES_FREE = Gauge("node_filesystem_files_free", "Free inodes of the file system.", _LABELS)
READONLY = Gauge("node_filesystem_readonly", "Whether the file system is mounted read-only.", _LABELS)
DEVICE_ERROR = Gauge(
    "node_filesystem_device_error", "Whether statvfs failed or timed out for the file system.", _LABELS
)
MOUNT_INFO = Gauge(
    "node_filesystem_mount_info", "Device numbers of the mount.", ("device", "major", "minor", "mountpoint")
)

#: node_exporter's label for a file system that does not answer; other reasons are the system's own.
_TIMED_OUT = "mountpoint timeout"

#: How many threads may hang at once, for all mounts together.
_MOST_THREADS = 32

_OCTAL = re.compile(r"\\([0-7]{3})")


class FilesystemSettings(Settings):
    """Which mounts are left out, and how long (seconds) all of them together may take. Defaults are node_exporter's."""

    mount_points_exclude: Pattern = Pattern(
        r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    )
    fs_types_exclude: Pattern = Pattern(
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
        self._mountinfo = ""
        self._wanted: tuple[Mount, ...] = ()
        self._returned: set[str] = set()  # the mount points that answered or refused in the last run

    def collect(self) -> Iterator[Sample]:
        mounts = self._mounts()
        answers = self._ask([mount.point for mount in mounts])
        for mount in mounts:
            answer = answers.get(mount.point, _TIMED_OUT)
            error = answer if isinstance(answer, str) else ""
            labels = {
                "device": mount.device, "fstype": mount.fstype, "mountpoint": mount.point, "device_error": error
            }  # fmt: skip
            yield DEVICE_ERROR(int(error != ""), **labels)
            yield READONLY(int(mount.readonly), **labels)
            yield MOUNT_INFO(1, device=mount.device, major=mount.major, minor=mount.minor, mountpoint=mount.point)
            if isinstance(answer, str):
                continue
            yield SIZE(answer.f_blocks * answer.f_frsize, **labels)
            yield FREE(answer.f_bfree * answer.f_frsize, **labels)
            yield AVAIL(answer.f_bavail * answer.f_frsize, **labels)
            yield FILES(answer.f_files, **labels)
            yield FILES_FREE(answer.f_ffree, **labels)

    def _mounts(self) -> tuple[Mount, ...]:
        try:
            text = read_text(self._paths.in_proc("1", "mountinfo"))
        except (FileNotFoundError, PermissionError):
            text = read_text(self._paths.in_proc("self", "mountinfo"))
        if text != self._mountinfo:  # mounts hardly ever change: what they were parsed from is kept with them
            self._wanted, self._mountinfo = tuple(self._select(text)), text
        return self._wanted

    def _select(self, text: str) -> Iterator[Mount]:
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

    def _ask(self, points: Sequence[str]) -> Mapping[str, os.statvfs_result | str]:
        """The answer or the error by mount point, after at most `timeout` seconds; one that is missing hangs."""
        self._stuck = {point: thread for point, thread in self._stuck.items() if thread.is_alive()}
        left = [point for point in dict.fromkeys(points) if point not in self._stuck]
        if len(self._stuck) >= _MOST_THREADS // 2:
            # A server with many mounts is down. What is left of the threads is for those that answered last time.
            left = [point for point in left if point in self._returned]
        questions = _Questions(left, self._paths.in_root, self._statvfs)
        deadline = time.monotonic() + self._settings.timeout
        patience = self._settings.timeout / 10
        taken = 0
        while (remaining := deadline - time.monotonic()) > 0:
            if questions.taken == taken and questions.threads + len(self._stuck) < _MOST_THREADS:
                questions.start_thread()  # the first one; later: all those before are held up, the rest wants asking
            taken = questions.taken
            if not questions.threads or questions.ended.wait(min(patience, remaining)):
                break
        self._stuck |= questions.close()
        self._returned = set(questions.answers)
        return questions.answers


class _Questions:
    """The mounts of one run, which one thread asks one after the other; more threads where that one hangs."""

    def __init__(
        self, points: Sequence[str], path_of: Callable[[str], str], statvfs: Callable[[str], os.statvfs_result]
    ) -> None:
        self._points = points
        self._path_of = path_of
        self._statvfs = statvfs
        self._lock = threading.Lock()
        self._closed = False
        self._asking: dict[threading.Thread, str] = {}
        self.taken = 0  # how many of the points somebody has begun to ask
        self.answers: dict[str, os.statvfs_result | str] = {}
        self.ended = threading.Event()

    @property
    def threads(self) -> int:
        return len(self._asking)

    def start_thread(self) -> None:
        with self._lock:
            if self.taken == len(self._points):
                return
            thread = threading.Thread(target=self._work, name="statvfs", daemon=True)
            self._asking[thread] = self._take()
        thread.start()

    def close(self) -> dict[str, threading.Thread]:
        """Ends the run: what comes back later is not listened to. Returns who still hangs, by mount point."""
        with self._lock:
            self._closed = True
            return {point: thread for thread, point in self._asking.items()}

    def _take(self) -> str:
        point = self._points[self.taken]
        self.taken += 1
        return point

    def _work(self) -> None:
        me = threading.current_thread()
        point = self._asking[me]
        while True:
            answer: os.statvfs_result | str
            try:
                answer = self._statvfs(self._path_of(point))
            except OSError as error:
                reason = error.strerror or "error"
                answer = reason[:1].lower() + reason[1:]  # as node_exporter has it
            with self._lock:
                if self._closed:
                    return
                self.answers[point] = answer
                if self.taken == len(self._points):
                    del self._asking[me]
                    if not self._asking:
                        self.ended.set()
                    return
                point = self._asking[me] = self._take()


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts of a mountinfo file, with escapes such as `\\040` undone. Raises ValueError."""
    mounts = []
    for line in filter(None, text.split("\n")):
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not dash or len(fields) < 6 or len(rest) < 3:
            raise ValueError(f"mountinfo: not a mount: {line[:80]!r}")
        major, _, minor = fields[2].partition(":")
        # `emergency_ro`: ext4 has shut the file system down after an error (Documentation/filesystems/ext4).
        readonly = "ro" in fields[5].split(",") or not {"ro", "emergency_ro"}.isdisjoint(rest[2].split(","))
        mounts.append(Mount(_plain(rest[1]), _plain(fields[4]), _plain(rest[0]), readonly, major, minor))
    return mounts


def _plain(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), field) if "\\" in field else field
