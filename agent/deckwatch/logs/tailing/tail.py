"""Finds the files of one `logs.files` entry, follows them through rotation and stores their read positions."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.logs.tailing.discovery import Discovery
from deckwatch.logs.tailing.fingerprint import Replaced
from deckwatch.logs.tailing.followed_file import Stage
from deckwatch.logs.tailing.known_files import KnownFiles
from deckwatch.logs.tailing.path_tracker import PathTracker
from deckwatch.logs.tailing.rotated_names import live_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.logs.entry import Position
    from deckwatch.logs.tailing.followed_file import FollowedFile
    from deckwatch.logs.tailing.line_splitter import Chunk
    from deckwatch.logs.tailing.path_history import PathHistory

# Paths that changed within the last minute are checked on each poll, the others once in this many seconds.
_HOT_SECONDS = 60.0
_TURN_SECONDS = 1.5
# Interval in seconds at which unreadable files are retried and finished files are checked.
_RETRY_EVERY = 5.0
_REVIEW_EVERY = 10.0
# A copy grows fast, and is complete after a look or two. What grows slowly at so many looks is written by a program.
_GROWTHS = 4
_COPIED_BYTES = 16 * 1024 * 1024
_REPORT_COPY_AFTER = 60.0  # seconds
_IS_COPY = "is not read because it looks like a copy of another log: remove it, or add it to exclude"
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}

_NO_MATCH = "matches no file"


class _Suspect(NamedTuple):
    """A file that looks like a copy of another. Times in seconds of the tail's clock."""

    size: int  # in bytes, at `looked`
    since: float
    looked: float
    growths: int = 0  # how often it grew as a log file does


def _looked_at(suspect: _Suspect | None, size: int, now: float) -> _Suspect:
    if suspect is None or not suspect.size:
        return _Suspect(size, now, now)
    if now - suspect.looked < _RETRY_EVERY:
        return suspect
    has_grown = 0 < size - suspect.size < _COPIED_BYTES
    return suspect._replace(size=size, looked=now, growths=suspect.growths + has_grown)


class Tail:
    """Follows the files of `settings`. Not thread-safe: one thread polls, reads and commits.

    `positions` are the last run's positions by key. Those of other entries are ignored.
    `problem(path, message)` is called when a path cannot be followed, once per state change. Files that `other_rules`
    match are not taken for rotated ones.
    """

    def __init__(
        self,
        settings: FileSettings,
        positions: Mapping[str, Position],
        problem: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        max_open: int = 100,
        other_rules: Sequence[Discovery] = (),
    ) -> None:
        self._pattern = settings.path
        self._clock = clock
        self._problem = problem
        self._problems: dict[str, str] = {}
        self._discovery = Discovery(settings.path, settings.exclude, self._report)
        self._known = KnownFiles(settings.max_line_bytes, max_open, settings.encoding)
        self._ignore_older = settings.ignore_older
        self._other_rules = other_rules
        self._tracker = PathTracker(self._known, self._is_foreign)
        restored = [
            self._known.restore(key, position)
            for key, position in positions.items()
            if self._discovery.matches(position.path)
        ]
        self._unlocated = self._tracker.restore(restored)
        # Paths of files to be read from their end: None until the files are looked for. Of a rule with positions, new
        # files appeared while the agent was stopped: all of them is new.
        self._old_paths: set[str] | None = None if settings.start_at == "end" and not restored else set()
        self._unfollowed: set[str] = set()  # paths that match: not files, unreadable, or known by another path
        self._copies: dict[str, _Suspect] = {}  # those that look like copies of followed files
        self._hot: list[PathHistory] = []
        self._quiet: deque[PathHistory] = deque()
        self._quiet_due = 0.0  # how many of the quiet ones are due for a look
        self._ready: dict[PathHistory, None] = {}  # those with something to read
        self._failed: set[FollowedFile] = set()
        self._polled = self._retried = self._reviewed = clock()

    def poll(self) -> None:
        """Detect new, deleted, rotated and truncated files. Call it several times per second."""
        now = self._clock()
        self._locate_unlocated(now)
        is_retry = now - self._retried >= _RETRY_EVERY
        if is_retry:
            self._retried = now
            self._retry_failed()
        # Before new paths: a file that was renamed to one of them is known by then.
        self._check(now)
        self._discover(now, is_retry)
        if now - self._reviewed >= _REVIEW_EVERY:
            self._reviewed = now
            self._review(now)
        self._polled = now

    def ready(self) -> Iterable[FollowedFile]:
        """Return the files that have something to read, each once."""
        now = self._clock()
        ready: list[FollowedFile] = []
        for history in list(self._ready):
            if any(file.is_ready for file in history.files):
                ready += [file for file in history.readable(now) if file.is_ready]
            else:
                del self._ready[history]
        return ready

    def read(self, file: FollowedFile, max_bytes: int = 256 * 1024) -> Chunk:
        """Return the next complete lines of the file: none if it is at its end, cannot be read or was replaced.

        `max_bytes` is raised to the longest line allowed.
        """
        history = self._tracker.get(file.path)
        if history is None or file not in history.files:
            return file.nothing_to_read()
        nothing = file.nothing_to_read()  # now: a truncation moves the offset
        try:
            chunk = self._read(history, file, max_bytes)
        except OSError as error:
            self._failed.add(file)
            self._report(file.path, _why(error))
            file.read_failed()
            return nothing
        if chunk is None:
            return nothing
        if self._problems:
            self._report(file.path, "")
        if not chunk.more and file.stage is Stage.ENDED:
            self._tracker.finish(history, file)
        return chunk

    def _read(self, history: PathHistory, file: FollowedFile, max_bytes: int) -> Chunk | None:
        try:
            self._known.open(file)
        except (Replaced, FileNotFoundError):
            self._tracker.search(history, file)
            return None
        chunk = file.read(max_bytes)
        if chunk is None:
            self._tracker.truncated(history, file, self._clock())
            self._ready[history] = None
        return chunk

    def commit(self, file: FollowedFile, offset: int) -> None:
        """Everything before `offset` (bytes) is in the spool."""
        if not self._known.has(file):
            return  # its content is gone from the disk, and its position with it
        file.commit(offset)
        self._tracker.committed(file)

    def positions(self) -> dict[str, Position]:
        """How far each known file was committed, by key."""
        return {file.key: file.position_at(file.committed) for file in self._known.all()}

    def lag(self) -> Iterable[tuple[str, int]]:
        """For each path the bytes that are not committed yet."""
        return [(history.path, sum(file.lag_bytes for file in history.all_files())) for history in self._tracker]

    def files(self) -> list[FollowedFile]:
        """Return the files that are being read or not completely committed yet."""
        return [file for file in self._known.all() if not (file.is_finished and file.is_committed)]

    def close(self) -> None:
        """Close the files. What was not committed is read again by the next tail."""
        self._known.close_all()

    def _is_foreign(self, candidate: str, path: str) -> bool:
        """Whether the config names `candidate` as a file that is not a rotated one of `path`."""
        # The listing has real paths. `exclude` and patterns are written for those that the user sees.
        shown = os.path.join(os.path.dirname(path), os.path.basename(candidate))
        if self._discovery.excludes(candidate) or self._discovery.excludes(shown):
            return True
        return any(
            (rule.matches(candidate) or rule.matches(shown)) and not rule.matches(path) for rule in self._other_rules
        )

    def _locate_unlocated(self, now: float) -> None:
        unlocated = []
        for history in self._unlocated:
            try:
                self._tracker.locate(history, now)
            except OSError as error:
                self._report(history.path, _why(error))
                unlocated.append(history)
                continue
            self._report(history.path, "")
            self._ready[history] = None
            self._schedule(history, now)
        self._unlocated = unlocated

    def _review(self, now: float) -> None:
        for history in self._tracker:
            if not history.finished:
                continue
            try:
                if self._tracker.review(history, now):
                    self._ready[history] = None
            except OSError as error:
                self._report(history.path, _why(error))

    def _check(self, now: float) -> None:
        """Check the followed paths: all active ones, and the idle ones that are due."""
        self._quiet_due += len(self._quiet) * (now - self._polled) / _TURN_SECONDS
        turns = min(int(self._quiet_due), len(self._quiet))
        self._quiet_due = min(self._quiet_due - turns, 1.0)
        due = self._hot + [self._quiet.popleft() for _ in range(turns)]
        self._hot = []
        for history in due:
            try:
                if self._tracker.check(history, now):
                    self._ready[history] = None
            except OSError as error:
                self._report(history.path, _why(error))
            self._schedule(history, now)

    def _schedule(self, history: PathHistory, now: float) -> None:
        """Among the hot ones, among the quiet ones, or nowhere when nothing is left of it."""
        if not history.files and not history.finished:
            self._tracker.remove(history)
            self._ready.pop(history, None)
            if os.path.lexists(history.path):
                self._unfollowed.add(history.path)
        elif not history.is_settled or now - history.changed_at < _HOT_SECONDS:
            self._hot.append(history)
        else:
            self._quiet.append(history)

    def _discover(self, now: float, is_retry: bool) -> None:
        found = self._discovery.find(now)
        if found is not None:
            self._unfollowed = {path for path in found if self._tracker.get(path) is None}
            if not found:
                self._report(self._pattern, _NO_MATCH)
            elif self._problems.get(self._pattern) == _NO_MATCH:  # a pattern without wildcards is a path as well
                self._report(self._pattern, "")
            self._copies = {path: one for path, one in self._copies.items() if path in self._unfollowed}
        elif not is_retry:
            return
        if self._old_paths is None:
            self._old_paths = set(found or ())
        for path in sorted(self._unfollowed):
            if found is None and path not in self._problems and path not in self._copies and self._is_known(path):
                continue  # belongs to another path, until it is truncated or replaced
            history = self._begin(path, now)
            if history is not None:
                self._unfollowed.discard(path)
                self._ready[history] = None
                self._schedule(history, now)

    def _is_known(self, path: str) -> bool:
        """Whether the file at the path is followed, as far as its inode says; true also if there is none."""
        try:
            status = os.stat(path)
        except OSError:
            return True
        return self._known.by_inode((status.st_dev, status.st_ino)) is not None

    def _begin(self, path: str, now: float) -> PathHistory | None:
        """Follow a path if it has a file that is not followed yet."""
        try:
            status = os.stat(path)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFREG and not os.access(path, os.R_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            self._report(path, _why(error) if os.path.lexists(path) else "")
            return None
        if kind != stat.S_IFREG:
            self._report(path, f"is {_KINDS.get(kind, 'a device')}, not a file")
            return None
        try:
            belongs_to_another = self._belongs_to_another(path, status, now)
        except (FileNotFoundError, Replaced):
            return None  # just renamed: the folder has changed and is listed again
        except OSError as error:
            self._report(path, _why(error))
            return None
        suspect = self._copies.get(path)
        is_unread = suspect is not None and suspect.size and now - suspect.since >= _REPORT_COPY_AFTER
        self._report(path, _IS_COPY if is_unread else "")
        if belongs_to_another:
            return None
        age = time.time() - status.st_mtime
        is_old = self._ignore_older is not None and age > self._ignore_older
        try:
            history = self._tracker.begin(path, status, now, at_end=is_old or path in (self._old_paths or ()))
        except OSError as error:
            self._report(path, _why(error))
            return None
        if self._old_paths:
            self._old_paths.discard(path)
        return history

    def _belongs_to_another(self, path: str, status: os.stat_result, now: float) -> bool:
        """Whether the file at the path is known by another one, or a copy that is being made of such a file."""
        suspect = self._copies.pop(path, None)
        known = self._tracker.known_at(path, status)
        if known is not None:
            if known.stage is not Stage.LIVE:
                known.found_at(path)
            return True
        folder, name = os.path.split(path)
        for live_name in live_names(name):
            other = self._tracker.get(os.path.join(folder, live_name))
            if other is None:
                continue
            if self._tracker.is_copy(other, path, status):
                suspect = _looked_at(suspect, status.st_size, now)
                if suspect.growths < _GROWTHS:
                    self._copies[path] = suspect
                    return True
            # It may have been rotated since the last check.
            if self._tracker.check(other, now):
                self._ready[other] = None
            if self._tracker.known_at(path, status) is not None:
                return True
        return False

    def _retry_failed(self) -> None:
        for file in self._failed:
            history = self._tracker.get(file.path)
            if history is not None and file in history.files:
                file.retry()
                self._ready[history] = None
        self._failed.clear()

    def _report(self, path: str, message: str) -> None:
        """Report the state of a path. An empty message means no problem."""
        if self._problems.get(path, "") == message:
            return
        if message:
            self._problems[path] = message
            self._problem(path, message)
        else:
            del self._problems[path]


def _why(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "is a link to nothing"
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    return f"cannot be read: {error.strerror or error}"
