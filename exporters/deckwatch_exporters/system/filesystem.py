"""Space, inodes and state of mounted file systems, from mountinfo (proc_pid_mountinfo(5)) and statvfs(3).

statvfs on a dead network mount can hang and cannot be interrupted. The calls are therefore made in threads
that are abandoned if they hang. A mount that hangs is reported as an error, and is read again after its thread returns.
"""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Duration, Gauge, Malformed, Pattern, Settings

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues
from .paths import Paths, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deckwatch.exporter import Samples

#: `device_error` is the reason why statvfs failed; empty if it succeeded.
_LABELS = ("device", "fstype", "mountpoint", "device_error")

SIZE = Gauge("node_filesystem_size_bytes", "Size of the file system, in bytes.", _LABELS)
FREE = Gauge("node_filesystem_free_bytes", "Free space of the file system, in bytes.", _LABELS)
AVAIL = Gauge("node_filesystem_avail_bytes", "Space of the file system available to non-root users, in bytes.", _LABELS)
FILES = Gauge("node_filesystem_files", "Number of inodes of the file system.", _LABELS)
FILES_FREE = Gauge("node_filesystem_files_free", "Number of free inodes of the file system.", _LABELS)
READONLY = Gauge("node_filesystem_readonly", "Whether the file system is read-only (1) or not (0).", _LABELS)
DEVICE_ERROR = Gauge(
    "node_filesystem_device_error", "Whether reading the file system failed or timed out (1) or not (0).", _LABELS
)
MOUNT_INFO = Gauge(
    "node_filesystem_mount_info",
    "Device numbers of the mount; the value is always 1.",
    ("device", "major", "minor", "mountpoint"),
)

#: A number from here on is a negative one that wrapped around; the largest one means that it is not known.
_WRAPPED = 1 << 63
_UNKNOWN = (1 << 64) - 1

#: node_exporter's label value for a file system that does not respond; other reasons come from the system.
_TIMED_OUT = "mountpoint timeout"

#: How many threads may hang at the same time, for all mounts together.
_MAX_THREADS = 32

#: File systems that answer statvfs from memory, so that their mounts cannot hang. Btrfs and XFS can wait for a lock.
_IN_MEMORY = frozenset(("ext2", "ext3", "ext4", "ramfs", "tmpfs", "vfat"))

_OCTAL = re.compile(r"\\([0-7]{3})")
_DEVICE_NUMBER = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")


class FilesystemSettings(Settings):
    """`mount_points_exclude` and `fs_types_exclude`: regular expressions; the defaults are node_exporter's.

    `timeout`: time limit for reading all mounts, in seconds.
    """

    mount_points_exclude: Pattern = Pattern(
        r"^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    )
    fs_types_exclude: Pattern = Pattern(
        "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay"
        "|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$"
    )
    timeout: Duration = 5.0


class Mount(NamedTuple):
    """A mount of mountinfo. `point` may hold bytes that are not UTF-8, as surrogates.

    It `can_hang` if its file system does not answer from memory, or one that it is mounted on does not.
    """

    device: str
    point: str
    fstype: str
    is_readonly: bool
    is_super_readonly: bool
    major: str
    minor: str
    can_hang: bool = True


class Filesystem:
    def __init__(
        self,
        paths: Paths,
        settings: FilesystemSettings,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._paths = paths
        self._files = KeptFiles()
        self._settings = settings
        self._statvfs = statvfs
        self._hanging: dict[str, threading.Thread] = {}  # by mount point
        self._mountinfo = ""
        self._mounts: tuple[Mount, ...] = ()
        self._malformed = MalformedValues()
        self._returned: set[str] = set()  # the mount points that returned in the last run

    def collect(self) -> Samples:
        mounts = self._read_mounts()
        results = self._statvfs_all([mount.point for mount in mounts if mount.can_hang])
        for mount in mounts:
            if not mount.can_hang:
                results[mount.point] = _result(self._statvfs, self._paths.in_root(mount.point))
        for mount in mounts:
            result = results.get(mount.point, _TIMED_OUT)
            error = result if isinstance(result, str) else ""
            point = printable(mount.point)
            labels = {
                "device": mount.device, "fstype": mount.fstype, "mountpoint": point, "device_error": error
            }  # fmt: skip
            yield DEVICE_ERROR(int(error != ""), **labels)
            yield READONLY(int(mount.is_readonly), **labels)
            yield MOUNT_INFO(1, device=mount.device, major=mount.major, minor=mount.minor, mountpoint=point)
            if isinstance(result, str):
                continue
            for metric, field, unit in (
                (SIZE, "f_blocks", result.f_frsize),
                (FREE, "f_bfree", result.f_frsize),
                (AVAIL, "f_bavail", result.f_frsize),
                (FILES, "f_files", 1),
                (FILES_FREE, "f_ffree", 1),
            ):
                count = getattr(result, field)
                if 0 <= count < _WRAPPED:
                    yield metric(count * unit, **labels)
                elif count != _UNKNOWN:
                    yield Malformed(f"statvfs: {point}: {field}", str(count))
        yield from self._malformed

    def _read_mounts(self) -> tuple[Mount, ...]:
        is_own_namespace = False
        try:
            text = self._files.read(self._paths.in_proc("1", "mountinfo"), errors="surrogateescape")
        except (FileNotFoundError, PermissionError):
            is_own_namespace = True
            text = self._files.read(self._paths.in_proc("self", "mountinfo"), errors="surrogateescape")
        if text != self._mountinfo:  # mounts rarely change
            self._malformed = MalformedValues()
            self._mounts = tuple(self._select(parse_mountinfo(text, self._malformed), is_own_namespace))
            self._mountinfo = text
        return self._mounts

    def _select(self, mounts: Sequence[Mount], is_own_namespace: bool) -> Iterator[Mount]:
        """The mounts to export, with the mount points that they have on the host.

        mountinfo is either the host's, or that of a container in which the root of the host is mounted at `rootfs`. In
        the latter, other mounts belong to the container. The flags of a mount (`ro`) apply to its namespace only: in
        that of a container or a sandboxed service, only the flags of the super block describe the host.
        """
        root = "" if self._paths.root == "/" else self._paths.root.rstrip("/")
        is_container = root != "" and any(mount.point == root for mount in mounts)
        slow = {mount.point for mount in mounts if mount.fstype not in _IN_MEMORY}
        seen: set[tuple[str, ...]] = set()
        for mount in mounts:
            point = mount.point
            if is_container:
                if point != root and not point.startswith(root + "/"):
                    continue
                point = point.removeprefix(root) or "/"
            keys = {
                (mount.device, mount.fstype, point),
                (mount.device, mount.major, mount.minor, point),
            }
            if (
                seen.isdisjoint(keys)
                and not self._settings.mount_points_exclude.search(point)
                and not self._settings.fs_types_exclude.search(mount.fstype)
            ):
                seen |= keys
                is_readonly = mount.is_super_readonly if is_container or is_own_namespace else mount.is_readonly
                can_hang = not slow.isdisjoint(_with_parents(mount.point))
                yield mount._replace(point=point, is_readonly=is_readonly, can_hang=can_hang)

    def _statvfs_all(self, points: Sequence[str]) -> dict[str, os.statvfs_result | str]:
        """The result or the error by mount point, within `timeout` seconds; a point that hangs has neither."""
        self._hanging = {point: thread for point, thread in self._hanging.items() if thread.is_alive()}
        left = [point for point in dict.fromkeys(points) if point not in self._hanging]
        if len(self._hanging) >= _MAX_THREADS // 2:
            # A server with many mounts is down. The remaining threads are for mounts that returned in the last run.
            left = [point for point in left if point in self._returned]
        run = _StatvfsRun(left, self._paths.in_root, self._statvfs)
        deadline = time.monotonic() + self._settings.timeout
        patience = self._settings.timeout / 10
        started = 0
        while (remaining := deadline - time.monotonic()) > 0:
            if run.started == started and run.threads + len(self._hanging) < _MAX_THREADS:
                run.start_thread()  # the first thread, or all threads hang and there are mounts left
            started = run.started
            if not run.threads or run.ended.wait(min(patience, remaining)):
                break
        self._hanging |= run.close()
        self._returned = set(run.results)
        return run.results


class _StatvfsRun:
    """Calls statvfs for the mounts of one run, in a single thread unless it hangs."""

    def __init__(
        self, points: Sequence[str], path_of: Callable[[str], str], statvfs: Callable[[str], os.statvfs_result]
    ) -> None:
        self._points = points
        self._path_of = path_of
        self._statvfs = statvfs
        self._lock = threading.Lock()
        self._closed = False
        self._current: dict[threading.Thread, str] = {}
        self.started = 0  # number of points for which the call has started
        self.results: dict[str, os.statvfs_result | str] = {}
        self.ended = threading.Event()

    @property
    def threads(self) -> int:
        return len(self._current)

    def start_thread(self) -> None:
        with self._lock:
            if self.started == len(self._points):
                return
            thread = threading.Thread(target=self._work, name="statvfs", daemon=True)
            self._current[thread] = self._take()
        thread.start()

    def close(self) -> dict[str, threading.Thread]:
        """End the run: later results are ignored. Returns the threads that hang, by mount point."""
        with self._lock:
            self._closed = True
            return {point: thread for thread, point in self._current.items()}

    def _take(self) -> str:
        point = self._points[self.started]
        self.started += 1
        return point

    def _work(self) -> None:
        thread = threading.current_thread()
        point = self._current[thread]
        while True:
            result = _result(self._statvfs, self._path_of(point))
            with self._lock:
                if self._closed:
                    return
                self.results[point] = result
                if self.started == len(self._points):
                    del self._current[thread]
                    if not self._current:
                        self.ended.set()
                    return
                point = self._current[thread] = self._take()


def _result(statvfs: Callable[[str], os.statvfs_result], path: str) -> os.statvfs_result | str:
    """The result of statvfs or the reason why it failed."""
    try:
        return statvfs(path)
    except OSError as error:
        reason = error.strerror or "error"
        return reason[:1].lower() + reason[1:]  # as in node_exporter
    except ValueError:
        return "invalid argument"  # the path contains a null byte


def _with_parents(point: str) -> Iterator[str]:
    """`/a/b` as `/a/b`, `/a` and `/`."""
    yield point
    while point != "/":
        point = point.rpartition("/")[0] or "/"
        yield point


def parse_mountinfo(text: str, malformed: MalformedValues) -> list[Mount]:
    """The mounts in a mountinfo file, with escapes such as `\\040` resolved."""
    mounts = []
    for line in filter(None, text.split("\n")):
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        number = _DEVICE_NUMBER.fullmatch(fields[2]) if len(fields) > 2 else None
        point = _unescape(fields[4]) if len(fields) > 4 else ""
        if not dash or len(fields) < 6 or len(rest) < 3 or number is None or point[:1] != "/" or "\0" in point:
            malformed.add("mountinfo", printable(line))
            continue
        fstype, device, *options = rest
        # `emergency_ro`: ext4 was shut down after an error (Documentation/filesystems/ext4).
        is_super_readonly = not {"ro", "emergency_ro"}.isdisjoint(" ".join(options).split(","))
        mounts.append(
            Mount(
                device=printable(_unescape(device)),
                point=point,
                fstype=printable(_unescape(fstype)),
                is_readonly=is_super_readonly or "ro" in fields[5].split(","),
                is_super_readonly=is_super_readonly,
                major=number[1],
                minor=number[2],
            )
        )
    return mounts


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]).decode("utf-8", "surrogateescape"), field)
