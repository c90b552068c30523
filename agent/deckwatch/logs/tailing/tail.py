"""All files of one entry of `logs.files`: found, followed through rotation, remembered by how far they were read."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from typing import TYPE_CHECKING

from deckwatch.logs.tailing.discovery import Discovery
from deckwatch.logs.tailing.followed_file import Chunk, Replaced
from deckwatch.logs.tailing.histories import Histories
from deckwatch.logs.tailing.known_files import KnownFiles
from deckwatch.logs.tailing.rotated_names import live_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.logs.entry import Position
    from deckwatch.logs.tailing.followed_file import FollowedFile
    from deckwatch.logs.tailing.path_history import PathHistory

# Paths that changed within the last minute are looked at on each poll, the others in turns of this many seconds.
_HOT_SECONDS = 60.0
_TURN_SECONDS = 1.5
# How often (seconds) what could not be read is tried again, and finished files are looked at.
_RETRY_EVERY = 5.0
_REVIEW_EVERY = 10.0
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


class Tail:
    """Follows the files of `settings`. Not thread-safe: one thread polls, reads and commits.

    `positions` are those of the last run by key; the ones of other entries among them are left alone.
    `problem(path, message)` is told when a path cannot be followed, once for each change of its state.
    """

    def __init__(
        self,
        settings: FileSettings,
        positions: Mapping[str, Position],
        problem: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pattern = settings.path
        self._clock = clock
        self._problem = problem
        self._problems: dict[str, str] = {}
        self._discovery = Discovery(settings.path, settings.exclude, self._tell)
        self._known = KnownFiles(settings.max_line_bytes)
        self._histories = Histories(self._known)
        restored = [
            self._known.restore(key, position)
            for key, position in positions.items()
            if self._discovery.matches(position.path)
        ]
        self._restored = self._histories.restore(restored)
        self._unfollowed: set[str] = set()  # paths that match: no files, unreadable, or known by another path
        self._hot: list[PathHistory] = []
        self._quiet: deque[PathHistory] = deque()
        self._quiet_due = 0.0  # how many of the quiet ones are to be looked at
        self._busy: dict[PathHistory, None] = {}  # those with something to be read
        self._troubled: set[FollowedFile] = set()
        self._copies: set[str] = set()  # of those the ones that look like copies of what is followed
        self._polled = self._retried = self._reviewed = clock()

    def poll(self) -> None:
        """See what is new, gone, rotated or truncated. Meant to be called several times a second."""
        now = self._clock()
        self._locate_restored(now)
        retry = now - self._retried >= _RETRY_EVERY
        if retry:
            self._retried = now
            self._try_troubled_again()
        # Before new paths: a file that was renamed to one of them is known by then.
        self._check(now)
        self._discover(now, retry)
        if now - self._reviewed >= _REVIEW_EVERY:
            self._reviewed = now
            self._review(now)
        self._polled = now

    def ready(self) -> Iterable[FollowedFile]:
        """The files that have something to read, each once."""
        now = self._clock()
        ready: list[FollowedFile] = []
        for history in list(self._busy):
            if any(file.has_news for file in history.files):
                ready += [file for file in history.readable(now) if file.has_news]
            else:
                del self._busy[history]
        return ready

    def read(self, file: FollowedFile, max_bytes: int = 256 * 1024) -> Chunk:
        """The next complete lines of the file; none when it is at its end, cannot be read, or was replaced.

        `max_bytes` is raised to the longest line allowed.
        """
        nothing = Chunk(file, [], file.line_start, file.line_start, False, {})
        history = self._histories.get(file.path)
        if history is None or file not in history.files:
            return nothing
        try:
            chunk = self._read(history, file, max_bytes)
        except OSError as error:
            file.has_news = False
            file.caught_up = True  # does not hold up those after it
            self._troubled.add(file)
            self._tell(file.path, _why(error))
            return nothing
        if chunk is None:
            return nothing
        if self._problems:
            self._tell(file.path, "")
        if not chunk.more:
            file.has_news = False
            file.caught_up = True
            if file.final:
                self._histories.finish(history, file)
        return chunk

    def _read(self, history: PathHistory, file: FollowedFile, max_bytes: int) -> Chunk | None:
        try:
            self._known.open(file)
        except (Replaced, FileNotFoundError):
            self._histories.look_for(history, file)
            return None
        chunk = file.read(max_bytes)
        if chunk is None:
            file.has_news = False
            self._histories.truncated(history, file, self._clock())
            self._busy[history] = None
        return chunk

    def commit(self, file: FollowedFile, offset: int) -> None:
        """Everything before `offset` (bytes) is in the spool."""
        if not self._known.has(file):
            return  # what it had is gone from the disk, and its position with it
        file.committed = max(file.committed, min(offset, file.offset))
        self._histories.committed(file)

    def positions(self) -> dict[str, Position]:
        """How far each known file was committed, by key."""
        return {file.key: file.position_at(file.committed) for file in self._known.all()}

    def lag(self) -> Iterable[tuple[str, int]]:
        """For each path the bytes that are not committed yet."""
        return [
            (history.path, sum(max(0, file.size - file.committed) for file in (*history.files, *history.finished)))
            for history in self._histories
        ]

    def files(self) -> list[FollowedFile]:
        """The files that are being read, and those that were read and not yet committed as a whole."""
        return [file for file in self._known.all() if not file.is_finished or file.committed < file.offset]

    def keys(self) -> set[str]:
        """The keys of `files`."""
        return {file.key for file in self.files()}

    def close(self) -> None:
        """Close the files. What was not committed is read again by the next tail."""
        self._known.close_all()

    def _locate_restored(self, now: float) -> None:
        unlocated = []
        for history in self._restored:
            try:
                self._histories.locate(history, now)
            except OSError as error:
                self._tell(history.path, _why(error))
                unlocated.append(history)
                continue
            self._tell(history.path, "")
            self._busy[history] = None
            self._place(history, now)
        self._restored = unlocated

    def _review(self, now: float) -> None:
        for history in self._histories:
            if not history.finished:
                continue
            try:
                if self._histories.review(history, now):
                    self._busy[history] = None
            except OSError as error:
                self._tell(history.path, _why(error))

    def _check(self, now: float) -> None:
        """Look at the paths that are followed: at the hot ones, and at those quiet ones whose turn it is."""
        self._quiet_due += len(self._quiet) * (now - self._polled) / _TURN_SECONDS
        turns = min(int(self._quiet_due), len(self._quiet))
        self._quiet_due = min(self._quiet_due - turns, 1.0)
        due = self._hot + [self._quiet.popleft() for _ in range(turns)]
        self._hot = []
        for history in due:
            try:
                if self._histories.check(history, now):
                    self._busy[history] = None
            except OSError as error:
                self._tell(history.path, _why(error))
            self._place(history, now)

    def _place(self, history: PathHistory, now: float) -> None:
        """Among the hot ones, among the quiet ones, or nowhere when nothing is left of it."""
        if not history.files and not history.finished:
            self._histories.remove(history)
            self._busy.pop(history, None)
            if os.path.lexists(history.path):
                self._unfollowed.add(history.path)
        elif not history.settled or now - history.changed < _HOT_SECONDS:
            self._hot.append(history)
        else:
            self._quiet.append(history)

    def _discover(self, now: float, retry: bool) -> None:
        found = self._discovery.find(now)
        if found is not None:
            self._unfollowed = {path for path in found if self._histories.get(path) is None}
            self._tell(self._pattern, "" if found else "matches no file")
            self._copies &= self._unfollowed
        elif not retry:
            return
        for path in sorted(self._unfollowed):
            if found is None and path not in self._problems and path not in self._copies:
                continue  # belongs to another path: only a change in the folder can end that
            history = self._begin(path, now)
            if history is not None:
                self._unfollowed.discard(path)
                self._busy[history] = None
                self._place(history, now)

    def _begin(self, path: str, now: float) -> PathHistory | None:
        """Follow a path unless there is no file, or one that is followed already."""
        try:
            status = os.stat(path)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFREG and not os.access(path, os.R_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            self._tell(path, _why(error) if os.path.lexists(path) else "")
            return None
        if kind != stat.S_IFREG:
            self._tell(path, f"is {_KINDS.get(kind, 'a device')}, not a file")
            return None
        self._tell(path, "")
        try:
            if self._belongs_to_another(path, status, now):
                return None
        except (FileNotFoundError, Replaced):
            return None  # renamed this moment: the folder has changed, and is listed again
        except OSError as error:
            self._tell(path, _why(error))
            return None
        return self._histories.begin(path, status, now)

    def _belongs_to_another(self, path: str, status: os.stat_result, now: float) -> bool:
        """Whether the file at the path is known by another one, or a copy that is being made of such a file."""
        self._copies.discard(path)
        known = self._histories.confirmed(path, status)
        if known is not None:
            if known.left is not None:
                known.place = path
            return True
        folder, name = os.path.split(path)
        for live_name in live_names(name):
            other = self._histories.get(os.path.join(folder, live_name))
            if other is None:
                continue
            if self._histories.whereabouts.is_copy(other, path, status):
                self._copies.add(path)
                return True
            # It may have been rotated since that was last looked at.
            if self._histories.check(other, now):
                self._busy[other] = None
            if self._histories.confirmed(path, status) is not None:
                return True
        return False

    def _try_troubled_again(self) -> None:
        for file in self._troubled:
            history = self._histories.get(file.path)
            if history is not None and file in history.files:
                file.has_news = True
                self._busy[history] = None
        self._troubled.clear()

    def _tell(self, path: str, message: str) -> None:
        """Report what became of a path; no message when all is well."""
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
