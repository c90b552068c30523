"""What was at a path, one file after the other: rotation by rename, by copy and truncation, by deletion.

The files of a path are read in the order in which they were there. One that left the path (it was renamed or deleted)
is read to its end, through its descriptor where nothing else leads to it, and is finished when nothing more came for
a while. Finished files are remembered as long as they exist, so that they are never taken for new ones.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from deckwatch.logs.tailing.followed_file import Replaced
from deckwatch.logs.tailing.path_history import PathHistory
from deckwatch.logs.tailing.rotated_names import find_siblings
from deckwatch.logs.tailing.rotation import Whereabouts, is_unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deckwatch.logs.tailing.followed_file import FollowedFile
    from deckwatch.logs.tailing.known_files import KnownFiles

# A writer can hold on to a file that was renamed until it is told: logrotate does so right after it.
_QUIET_SECONDS = 2.0
# One that nothing took the place of has no reason to end; deleted, it takes room as long as it is open.
_QUIET_DELETED_SECONDS = 10.0
# Of many rotated files that wait to be read (after a long stop) so many are held open.
_WATCHED = 20
# Renames can come between a listing and a look at what was listed.
_TRIES = 20
# A file that could not be found so many times is gone: once could be a rename under way.
_MISSES = 2


class Histories:
    """The histories of all paths of a tail, by path. Methods with `now` take seconds of the tail's clock."""

    def __init__(self, known: KnownFiles) -> None:
        self._known = known
        self.whereabouts = Whereabouts(known)
        self._by_path: dict[str, PathHistory] = {}

    def __iter__(self) -> Iterator[PathHistory]:
        return iter(list(self._by_path.values()))

    def get(self, path: str) -> PathHistory | None:
        return self._by_path.get(path)

    def restore(self, files: Iterable[FollowedFile]) -> list[PathHistory]:
        """The histories of files of the last run; where the files are is to be found by `locate`."""
        for file in files:
            # The later of two of one inode is the one that has it now.
            self._by_path.setdefault(file.path, PathHistory(file.path)).files.insert(0, file)
        return list(self)

    def locate(self, history: PathHistory, now: float) -> None:
        """Find a restored history's files, what was rotated after them, and what is at the path.

        Raises OSError when one of them cannot be looked at.
        """
        self._catch_up(history, regular(history.path), now)
        old = [file for file in history.files if file is not history.live]
        # They came in the order of the positions, which says nothing.
        old.sort(key=lambda file: file.mtime)
        history.files = [*old, *([history.live] if history.live else [])]
        for file in old:
            file.left = file.changed
            if file.offset >= file.size and not file.is_finished:
                self.finish(history, file)

    def begin(self, path: str, status: os.stat_result, now: float) -> PathHistory:
        """A path that was never seen: its file is read from the beginning, what was rotated before is not."""
        history = self._by_path[path] = PathHistory(path)
        history.live = self._known.begin(path, path, status, now)
        history.files.append(history.live)
        return history

    def remove(self, history: PathHistory) -> None:
        for file in (*history.files, *history.finished):
            self._known.forget(file)
        del self._by_path[history.path]

    def check(self, history: PathHistory, now: float) -> bool:
        """Look at the path and at the files that left it; true when there is something to be read.

        Raises OSError when the path cannot be looked at.
        """
        live, news = history.live, False
        try:
            status: os.stat_result | None = os.stat(history.path)
        except (FileNotFoundError, NotADirectoryError):
            status = None
        if live is not None and status is not None and (status.st_dev, status.st_ino) == live.inode:
            size = live.size
            # Shorter than what was read, or the same size with another mtime: written anew, or only touched.
            if live.saw(status, now) and (
                status.st_size < live.offset or (status.st_size == size and not is_unchanged(live))
            ):
                self.truncated(history, live, now)
                return True
            if status.st_size and not live.identity.length:
                # Since it was empty there may have been more than this: content that was rotated away at once.
                self._catch_up(history, status, now)
                return True
            news = live.has_news
        elif live is not None or status is not None:
            news = self._moved(history, status, now)
        if not history.settled:
            news = self._drain(history, now) or news
        return news

    def truncated(self, history: PathHistory, file: FollowedFile, now: float) -> None:
        """Its content is gone from this file: a copy may have it. Raises OSError when that cannot be looked for."""
        self._known.close(file)
        if file is not history.live:
            self.drop(history, file)
            return
        history.live = None
        file.mtime = file.read_mtime
        _leave(file, now)
        self._catch_up(history, regular(history.path), now, file)

    def finish(self, history: PathHistory, file: FollowedFile) -> None:
        """All of it was read and no more is to come."""
        history.files.remove(file)
        history.finished.append(file)
        file.is_finished = True
        file.has_news = False
        self.committed(file)

    def committed(self, file: FollowedFile) -> None:
        """Let go of a finished file when all of it was committed."""
        if file.is_finished and file.committed >= file.offset:
            self._known.close(file)
            if not file.links:
                history = self._by_path[file.path]
                history.finished.remove(file)
                self._known.forget(file)

    def drop(self, history: PathHistory, file: FollowedFile) -> None:
        """The file is gone for good."""
        if history.live is file:
            history.live = None
        self._known.gone(file)
        if file in history.files:
            history.files.remove(file)
            history.finished.append(file)
        self.committed(file)

    def look_for(self, history: PathHistory, file: FollowedFile) -> None:
        """The file is not where it was: find it, or drop it. Raises OSError when the folder cannot be listed."""
        for sibling in find_siblings(history.path):
            if sibling.inode == file.inode:
                self._known.placed(file, sibling.path)
                return
        file.missed += 1
        if file.missed >= _MISSES:
            self.drop(history, file)

    def review(self, history: PathHistory, now: float) -> bool:
        """See which finished files are gone, and which were written to after all; true when some were.

        Raises OSError when that cannot be found out.
        """
        lost, grown = [], False
        if history.live is None and not history.replaced:
            known = len(history.files)
            self._catch_up(history, regular(history.path), now)
            grown = len(history.files) > known
        for file in [file for file in history.finished if file.links]:
            try:
                status = os.stat(file.place)
            except (FileNotFoundError, NotADirectoryError):
                lost.append(file)
                continue
            if (status.st_dev, status.st_ino) != file.inode:
                lost.append(file)
            elif file.saw(status, now) and status.st_size > file.offset:
                grown = True
                history.finished.remove(file)
                history.files.insert(0, file)
                file.is_finished = file.final = False
        if lost:
            places = {sibling.inode: sibling for sibling in find_siblings(history.path)}
            for file in lost:
                if file.inode in places:
                    self._known.placed(file, places[file.inode].path)
                    continue
                file.missed += 1
                if file.missed >= _MISSES:
                    self.drop(history, file)
        return grown

    def confirmed(self, path: str, status: os.stat_result) -> FollowedFile | None:
        """The known file that is at `path`; one whose inode was used again is dropped."""
        known = self._known.by_inode((status.st_dev, status.st_ino))
        if known is None or known.fd >= 0:  # an open file's inode is not used again
            return known
        if self.whereabouts.holds(known, path, status):
            return known
        self.drop(self._by_path[known.path], known)
        return None

    def _moved(self, history: PathHistory, status: os.stat_result | None, now: float) -> bool:
        """What is at the path is not what was there: nothing, or another file."""
        left = history.live
        if left is not None:
            _leave(left, now)
            history.live = None
        if status is None:
            history.replaced = False
            if left is not None:  # there may have been another one meanwhile, which is rotated away already
                self._catch_up(history, None, now)
            return any(file.has_news for file in history.files)
        if not stat.S_ISREG(status.st_mode):
            history.replaced = True
            return False
        known = self.confirmed(history.path, status)
        if known is not None and known.path != history.path:
            history.replaced = True
            return False
        history.replaced = False
        self._catch_up(history, status, now)
        return True

    def _drain(self, history: PathHistory, now: float) -> bool:
        """Look at the files that left the path, and finish the first when its time has come."""
        for file in history.files[:_WATCHED]:
            if file is not history.live:
                try:
                    self._known.open(file)
                except (FileNotFoundError, Replaced):
                    self.look_for(history, file)
                    return True
                file.saw(os.fstat(file.fd), now)
        while history.files and history.files[0] is not history.live:
            head = history.files[0]
            if head.has_news and not head.final:
                return True
            succeeded = len(history.files) > 1 or history.replaced
            enough = _QUIET_SECONDS if succeeded else _QUIET_DELETED_SECONDS
            since = head.changed if head.left is None else max(head.changed, head.left)
            if not head.final and not ((succeeded or not head.links) and now - since >= enough):
                break
            head.final = True
            if head.size > head.offset or head.in_long_line:
                head.has_news = True
                return True
            self.finish(history, head)
        return any(file.has_news for file in history.files)

    def _catch_up(
        self, history: PathHistory, status: os.stat_result | None, now: float, truncated: FollowedFile | None = None
    ) -> None:
        """Find the known files of the path again, those that came after them, and the one that is at the path."""
        lost_inode = truncated.inode if truncated else None
        for _ in range(_TRIES):
            try:
                siblings = find_siblings(history.path)
                lost, reference = self.whereabouts.locate(history, siblings, status, lost_inode, now)
                new = [sibling for sibling in siblings if sibling.own and self.whereabouts.is_new(history, sibling)]
                break
            except (FileNotFoundError, Replaced):
                continue  # renamed between the listing and the look at it
        else:
            raise OSError("its folder changes too fast")
        for file in lost:
            self.drop(history, file)
        live = live_inode = None
        if status is not None:
            live_inode = status.st_dev, status.st_ino
            live = self._known.by_inode(live_inode)
        history.replaced = live is not None and live.path != history.path
        if live is None or history.replaced:
            for sibling in new:
                newer = sibling.status.st_mtime_ns >= reference if reference >= 0 else sibling.counted
                if newer and sibling.inode != live_inode:
                    file = self._known.begin(history.path, sibling.path, sibling.status, now)
                    file.left = file.changed
                    history.files.append(file)
        if live is None and status is not None:
            live = self._known.begin(history.path, history.path, status, now, truncated.key if truncated else "")
        if live is not None and not history.replaced:
            for files in (history.files, history.finished):
                if live in files:
                    files.remove(live)
            live.left = None
            live.is_finished = live.final = False
            history.files.append(live)
            history.live = live
        for file in history.files:
            if file is not history.live and file.left is None:
                _leave(file, now)


def _leave(file: FollowedFile, now: float) -> None:
    file.left = now
    file.caught_up = False


def regular(path: str) -> os.stat_result | None:
    """The status of the regular file at `path`; None when there is no such thing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None
