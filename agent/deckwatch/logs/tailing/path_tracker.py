"""Track the files at each path through rotation: by rename, by copy and truncation, by deletion.

The files of a path are read in the order in which they were there. One that left the path (it was renamed or deleted)
is read to its end, through its descriptor if no path leads to it, and finished when it has been quiet for a while.
Finished files are remembered while they exist, so that they are never mistaken for new ones.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from deckwatch.logs.tailing.fingerprint import Replaced
from deckwatch.logs.tailing.followed_file import Stage
from deckwatch.logs.tailing.path_history import PathHistory
from deckwatch.logs.tailing.rotated_names import find_rotated_files
from deckwatch.logs.tailing.rotation import RotationDetector, is_unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from deckwatch.logs.tailing.followed_file import FollowedFile
    from deckwatch.logs.tailing.known_files import KnownFiles
    from deckwatch.logs.tailing.rotated_names import RotatedFile

# A writer keeps a renamed file open until it is signaled to reopen, which logrotate does right after renaming.
_QUIET_SECONDS = 2.0
# A deleted file without a successor may still be written to. While it is open, it uses disk space.
_QUIET_DELETED_SECONDS = 10.0
# Of many rotated files that wait to be read (after a long stop), this many are held open.
_MAX_WATCHED = 20
# Files can be renamed between the listing and their check.
_MAX_TRIES = 20


class PathTracker:
    """The histories of all paths of a tail, by path. `now` is in seconds of the tail's clock."""

    def __init__(self, known: KnownFiles, is_foreign: Callable[[str, str], bool]) -> None:
        """`is_foreign(candidate, path)` is whether a file is not a rotated one of `path`, whatever its name."""
        self._known = known
        self._is_foreign = is_foreign
        self._detector = RotationDetector(known)
        self._by_path: dict[str, PathHistory] = {}

    def __iter__(self) -> Iterator[PathHistory]:
        return iter(list(self._by_path.values()))

    def get(self, path: str) -> PathHistory | None:
        return self._by_path.get(path)

    def restore(self, files: Iterable[FollowedFile]) -> list[PathHistory]:
        """Add the files of the last run. `locate` finds their current paths."""
        for file in files:
            # The later of two with the same inode is the one that has it now.
            self._by_path.setdefault(file.path, PathHistory(file.path)).files.insert(0, file)
        return list(self)

    def locate(self, history: PathHistory, now: float) -> None:
        """Find a restored history's files, the files rotated after them, and the file at the path.

        Raises OSError if one of them cannot be checked.
        """
        self._find_rotated(history, _regular(history.path), now)
        # They are in the order of the positions, which is arbitrary.
        rotated = sorted(history.rotated_files(), key=lambda file: file.mtime)
        history.files = [*rotated, *([history.live] if history.live else [])]
        for file in rotated:
            file.leave(file.changed_at)
            if file.offset >= file.size:
                self.finish(history, file)

    def begin(self, path: str, status: os.stat_result, now: float, *, at_end: bool = False) -> PathHistory:
        """Follow a new path. Its file is read from the beginning, or from its end; earlier rotated files are not read.

        Raises OSError if the end cannot be found.
        """
        file = self._known.add(path, path, status, now)
        if at_end and status.st_size:
            try:
                self._known.open(file)
                file.start_at_end()
            except OSError:
                self._known.forget(file)
                raise
        history = self._by_path[path] = PathHistory(path)
        history.set_live(file)
        return history

    def remove(self, history: PathHistory) -> None:
        for file in history.all_files():
            self._known.forget(file)
        del self._by_path[history.path]

    def check(self, history: PathHistory, now: float) -> bool:
        """Check the path and the files that left it. Return whether there is anything to read.

        Raises OSError if the path cannot be checked.
        """
        live, is_ready = history.live, False
        try:
            status: os.stat_result | None = os.stat(history.path)
        except (FileNotFoundError, NotADirectoryError):
            status = None
        if live is not None and status is not None and (status.st_dev, status.st_ino) == live.inode:
            size = live.size
            # Shorter than what was read, or the same size with another mtime: overwritten, or only touched.
            if live.observe(status, now) and (
                status.st_size < live.offset or (status.st_size == size and not is_unchanged(live))
            ):
                self.truncated(history, live, now)
                return True
            if status.st_size and not live.identity.length:
                # It was empty at the last check. Content written since may already have been rotated away.
                self._find_rotated(history, status, now)
                return True
            live.take_partial_line(now)
            is_ready = live.is_ready
        elif live is not None or status is not None:
            is_ready = self._replaced(history, status, now)
        if not history.is_settled:
            is_ready = self._drain(history, now) or is_ready
        return is_ready

    def truncated(self, history: PathHistory, file: FollowedFile, now: float) -> None:
        """Handle a file that lost its content, which may be in a copy. Raises OSError if copies cannot be searched."""
        self._known.close(file)
        if file is not history.live:
            self.vanished(history, file)
            return
        history.live_truncated(now)
        self._find_rotated(history, _regular(history.path), now, file)

    def finish(self, history: PathHistory, file: FollowedFile) -> None:
        """Record that a rotated file was read completely and that no more content is expected."""
        history.finish(file)
        self.committed(file)

    def committed(self, file: FollowedFile) -> None:
        """Close a finished file once all of it is committed; forget it if it no longer exists."""
        if file.is_finished and file.is_committed:
            self._known.close(file)
            if file.is_deleted:
                self._by_path[file.path].finished.remove(file)
                self._known.forget(file)

    def vanished(self, history: PathHistory, file: FollowedFile) -> None:
        """Record that the file no longer exists."""
        self._known.vanished(file)
        history.vanished(file)
        self.committed(file)

    def search(self, history: PathHistory, file: FollowedFile) -> None:
        """Search the folder for a file that was moved. Raises OSError if the folder cannot be listed."""
        for rotated in find_rotated_files(history.path):
            if rotated.inode == file.inode:
                self._known.found_at(file, rotated.path)
                return
        if file.not_found():
            self.vanished(history, file)

    def review(self, history: PathHistory, now: float) -> bool:
        """Find the finished files that no longer exist. Return whether others were written to again.

        Raises OSError when that cannot be found out.
        """
        missing, has_grown = [], False
        if history.live is None and not history.is_path_taken:
            count = len(history.files)
            self._find_rotated(history, _regular(history.path), now)
            has_grown = len(history.files) > count
        for file in [file for file in history.finished if not file.is_deleted]:
            try:
                status = os.stat(file.current_path)
            except (FileNotFoundError, NotADirectoryError):
                missing.append(file)
                continue
            if (status.st_dev, status.st_ino) != file.inode:
                missing.append(file)
                continue
            file.observe(status, now)
            if file.size > file.offset:
                has_grown = True
                history.reopen(file)
        if missing:
            by_inode = {rotated.inode: rotated for rotated in find_rotated_files(history.path)}
            for file in missing:
                if file.inode in by_inode:
                    self._known.found_at(file, by_inode[file.inode].path)
                elif file.not_found():
                    self.vanished(history, file)
        return has_grown

    def known_at(self, path: str, status: os.stat_result) -> FollowedFile | None:
        """The known file that is at `path`. If its inode was reused, the known file is gone."""
        known = self._known.by_inode((status.st_dev, status.st_ino))
        if known is None or known.is_open:  # the inode of an open file is not reused
            return known
        if self._detector.is_still_at(known, path, status):
            return known
        self.vanished(self._by_path[known.path], known)
        return None

    def is_copy(self, history: PathHistory, path: str, status: os.stat_result) -> bool:
        """Whether the file at `path` can be a copy of one of the history. Raises as `RotationDetector.is_copy`."""
        return self._detector.is_copy(history, path, status)

    def _rotated_files(self, path: str) -> list[RotatedFile]:
        """The files that may have been rotated away from `path`. A foreign one can still be a known file."""
        return [
            one._replace(is_own=False) if one.is_own and self._is_foreign(one.path, path) else one
            for one in find_rotated_files(path)
        ]

    def _replaced(self, history: PathHistory, status: os.stat_result | None, now: float) -> bool:
        """Handle a path with no file or a different file. Return whether there is anything to read."""
        had_live = history.live is not None
        history.live_left(now)
        if status is None:
            history.is_path_taken = False
            if had_live:  # another file may have been created and rotated away in the meantime
                self._find_rotated(history, None, now)
            return any(file.is_ready for file in history.files)
        if not stat.S_ISREG(status.st_mode):
            history.is_path_taken = True
            return False
        known = self.known_at(history.path, status)
        if known is not None and known.path != history.path:
            history.is_path_taken = True
            return False
        history.is_path_taken = False
        self._find_rotated(history, status, now)
        return True

    def _drain(self, history: PathHistory, now: float) -> bool:
        """Check the files that left the path, and finish those that are read completely and idle for long enough."""
        for file in history.files[:_MAX_WATCHED]:
            if file is not history.live:
                try:
                    self._known.open(file)
                except (FileNotFoundError, Replaced):
                    self.search(history, file)
                    return True
                file.observe_open(now)
        while history.files and history.files[0] is not history.live:
            first = history.files[0]
            if first.stage is Stage.LEFT:
                if first.is_ready:
                    return True
                has_successor = len(history.files) > 1 or history.is_path_taken
                quiet = _QUIET_SECONDS if has_successor else _QUIET_DELETED_SECONDS
                if not (has_successor or first.is_deleted) or now - first.quiet_since < quiet:
                    break
            if first.end():
                return True
            self.finish(history, first)
        return any(file.is_ready for file in history.files)

    def _find_rotated(
        self, history: PathHistory, status: os.stat_result | None, now: float, truncated: FollowedFile | None = None
    ) -> None:
        """Find the path's known files again, those rotated after them, and the one at the path, of `status`."""
        truncated_inode = truncated.inode if truncated else None
        for _ in range(_MAX_TRIES):
            try:
                listed = self._rotated_files(history.path)
                current = _regular(history.path)
                if not _is_same(status, current):
                    status = current  # rotated before the listing, perhaps more than once
                    continue
                gone, newest = self._detector.locate(history, listed, status, truncated_inode, now)
                new = [one for one in listed if one.is_own and one.is_numbered and self._detector.is_new(history, one)]
                break
            except (FileNotFoundError, Replaced):
                continue  # renamed between the listing and the check
        else:
            raise OSError("its folder changes too fast")
        # Those of which nothing was read are unread whatever was written after them.
        unread = {file.inode for file in gone if not file.identity.length}
        for file in gone:
            self.vanished(history, file)
        live = live_inode = None
        if status is not None:
            live_inode = status.st_dev, status.st_ino
            live = self._known.by_inode(live_inode)
        history.is_path_taken = live is not None and live.path != history.path
        if live is None or history.is_path_taken:
            for rotated in new:
                is_newer = rotated.status.st_mtime_ns >= newest or rotated.inode in unread
                if is_newer and rotated.inode != live_inode:
                    file = self._known.add(history.path, rotated.path, rotated.status, now)
                    file.leave(file.changed_at)
                    history.files.append(file)
        if live is None and status is not None:
            live = self._known.add(history.path, history.path, status, now, truncated.key if truncated else "")
        if live is not None and not history.is_path_taken:
            history.set_live(live)
        for file in history.rotated_files():
            if file.stage is Stage.LIVE:
                file.leave(now)


def _is_same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    if one is None or other is None:
        return one is other
    return os.path.samestat(one, other)


def _regular(path: str) -> os.stat_result | None:
    """The status of the regular file at `path`; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None
