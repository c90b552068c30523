"""Values of metrics in files that are mapped into memory, in the format of prometheus_client's multi-process mode.

A file `{type}_{process}.db`, for gauges `gauge_{mode}_{process}.db`, holds the number of used bytes (int32) and the
version of the format (int32, always 0), then entries: the length of the key (int32), the key as JSON, 1 to 8 blanks up
to a multiple of 8 bytes, the value and the time when it was set (doubles). Numbers are in the byte order of the
machine.

A file `exemplar_{process}.exemplars` has 256 bytes instead of the value and the time: the CRC-32 of what follows the
first 8 bytes (uint32), 4 bytes of padding, the observed value and its time (doubles), and the labels as JSON, filled up
with zeros.

Nothing here takes a lock: a fork, a signal handler or a finalizer may come at any moment. This relies on the global
interpreter lock, which CPython hands over only after calls and jumps back: the marked statements run undivided.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import struct
import threading
import time
import zlib
from array import array
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client.samples import Exemplar

    Cells = memoryview[float] | array[float]

_FIRST_SIZE = 16 * 1024
_MAX_SIZE = 64 * 1024 * 1024  # the agent reads no larger files
_START = 8
_EXEMPLAR_TEXT = 232
_EXEMPLAR = struct.Struct(f"dd{_EXEMPLAR_TEXT}s")
_DETACHED: Cells = array("d")
_MADV_WIPEONFORK = 18  # of Linux 4.14 and later; the module mmap does not name it


def _fork_mark() -> memoryview:
    """A byte that is 1, and 0 in a child of any fork: uWSGI forks without Python's hooks unless threads are enabled."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        page.madvise(_MADV_WIPEONFORK)
    page[0] = 1
    return memoryview(page)


_mark = _fork_mark()


class _Space(NamedTuple):
    data: mmap.mmap
    used: memoryview[int]  # the first item counts
    cells: Cells
    size: int


class _File:
    """One file. Earlier mappings stay valid when it grows, because all of them show the same pages."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._path = path
        self._used = _START
        self._places: dict[bytes, int] = {}
        # Not O_EXCL: another thread may open the same file at this moment. No other process has the same name.
        self._space = self._mapped(_FIRST_SIZE, os.O_CREAT)

    def place(self, key: bytes) -> tuple[Cells, int]:
        """The cells, and the index of the key's value among them; the time is next to it. Raises OSError."""
        space, offset = self._place(key, 16)
        return space.cells, offset // 8

    def write(self, key: bytes, content: bytes) -> None:
        """Write a key's content, which always has the same length. Raises OSError."""
        space, offset = self._place(key, len(content))
        struct.pack_into(f"{len(content)}s", space.data, offset, content)

    def _place(self, key: bytes, room: int) -> tuple[_Space, int]:
        padding = 8 - (len(key) + 4) % 8
        entry = struct.pack("i", len(key)) + key + b" " * padding + bytes(room)
        size = len(entry)
        write = struct.Struct(f"{size}s").pack_into
        while True:
            space = self._space
            data, used, _, capacity = space
            # Undivided from here until the entry is written.
            if key in self._places:
                return space, self._places[key]
            start = self._used
            end = start + size
            if end <= capacity:
                self._used = end
                self._places[key] = end - room
                write(data, start, entry)
                # Undivided. A later entry may have been published meanwhile.
                if used[0] < end:
                    used[0] = end
                return space, end - room
            larger = self._mapped(max(capacity * 2, 1 << (end - 1).bit_length()))
            if larger.size > self._space.size:
                self._space = larger

    def _mapped(self, size: int, flags: int = 0) -> _Space:
        if size > _MAX_SIZE:
            raise OSError(0, "the file would exceed 64 MiB")
        # The file is not kept open: in a program that closes all descriptors, its number would be another file's.
        descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o644)
        try:
            # Reserves the blocks: on a full file system, a write to a mapped hole ends the process.
            os.posix_fallocate(descriptor, 0, size)
            data = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        return _Space(data, memoryview(data).cast("i"), memoryview(data).cast("d"), size)


class SharedFiles:
    """The files of this process in the folder of its service.

    `before_first` is called with the process's identity before its first file is created; it may raise OSError.
    `forked` is called in a child process before its values are reset.
    """

    def __init__(self, folder: str, before_first: Callable[[str], None], forked: Callable[[], None]) -> None:
        self._folder = folder
        self._before_first = before_first
        self._forked = forked
        self._process = ""
        self._files: dict[str, _File] = {}
        self._values: WeakSet[SharedValue] = WeakSet()
        self._has_failed = False

    @property
    def is_used(self) -> bool:
        """Whether this process has files."""
        return bool(self._process) and bool(_mark[0])

    def add(self, value: SharedValue) -> None:
        self._values.add(value)

    def place(self, kind: str, key: bytes) -> tuple[Cells, int]:
        """Where a value is. If the file cannot be used, this is logged once and the value stays in the process."""
        try:
            return self._file(kind).place(key)
        except (OSError, ValueError) as failure:
            if not self._has_failed:
                self._has_failed = True
                self._report((failure.strerror if isinstance(failure, OSError) else None) or str(failure))
            return array("d", (0.0, 0.0)), 0

    def keep_exemplar(self, key: bytes, exemplar: Exemplar) -> None:
        """Replace the exemplar of a value. It is left out if it is too long or the file cannot be used."""
        labels = json.dumps(exemplar.labels, separators=(",", ":")).encode()
        if len(labels) <= _EXEMPLAR_TEXT:
            content = _EXEMPLAR.pack(exemplar.value, exemplar.timestamp or 0.0, labels)
            with contextlib.suppress(OSError, ValueError):
                self._file("exemplar").write(key, struct.pack("II", zlib.crc32(content), 0) + content)

    def after_fork(self) -> None:
        """Leave the parent's files. Values begin at 0 and get a place in new files when they change."""
        self._forked()
        self._files, self._process = {}, ""
        for value in self._values:
            value.detach()
        # Last: a garbage collection before this must not be counted in the files of the parent.
        _mark[0] = 1

    def _file(self, kind: str) -> _File:
        file = self._files.get(kind)
        if file is None:
            if not self._process:
                process = f"{os.getpid()}-{time.time_ns():x}"
                self._before_first(process)
                # Undivided. Of two threads, the first decides.
                if not self._process:
                    self._process = process
            ending = "exemplars" if kind == "exemplar" else "db"  # prometheus_client reads all files with `.db`
            opened = _File(os.path.join(self._folder, f"{kind}_{self._process}.{ending}"))
            file = self._files.setdefault(kind, opened)
        return file

    def _report(self, reason: str) -> None:
        # In a thread, because the caller may hold a metric's lock, for which a logging handler may wait.
        text = "metrics are not shared with the agent: %s: %s. Check DECKWATCH_APP_DIR."
        log = logging.getLogger("deckwatch")
        threading.Thread(target=log.warning, args=(text, self._folder, reason)).start()


class SharedValue:
    """A value with the interface of prometheus_client's values, in one of the files."""

    __slots__ = ("__weakref__", "_cells", "_index", "_key", "_kind")
    _multiprocess = True
    files: ClassVar[SharedFiles]

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_options: Any,
    ) -> None:
        self._kind = f"gauge_{multiprocess_mode}" if typ == "gauge" else typ
        labels = dict(zip(labelnames, labelvalues, strict=False))
        self._key = json.dumps([metric_name, name, labels, help_text], sort_keys=True).encode()
        self._cells, self._index = _DETACHED, 0
        self.files.add(self)
        self._attach()

    def _attach(self) -> None:
        if not _mark[0]:
            self.files.after_fork()
        self._cells, self._index = self.files.place(self._kind, self._key)

    def detach(self) -> None:
        self._cells, self._index = _DETACHED, 0

    def inc(self, amount: float) -> None:
        if not _mark[0]:
            self.files.after_fork()
        try:
            self._cells[self._index] += amount  # undivided, for amounts of built-in types
        except IndexError:
            self._attach()
            self._cells[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        if not _mark[0] or self._cells is _DETACHED:
            self._attach()
        self._cells[self._index] = value
        self._cells[self._index + 1] = timestamp or 0.0

    def get(self) -> float:
        return 0.0 if not _mark[0] or self._cells is _DETACHED else self._cells[self._index]

    def set_exemplar(self, exemplar: Exemplar) -> None:
        if not _mark[0]:
            self.files.after_fork()
        self.files.keep_exemplar(self._key, exemplar)

    def get_exemplar(self) -> None:
        """Only the agent reads exemplars."""


def shared_value_class(files: SharedFiles) -> type[SharedValue]:
    """The class that replaces `prometheus_client.values.ValueClass`."""
    return type("SharedValue", (SharedValue,), {"__slots__": (), "files": files})
