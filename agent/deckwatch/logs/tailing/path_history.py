"""The files that were at one path, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.logs.tailing.followed_file import FollowedFile

# If a writer keeps a rotated file open for longer than this, the next file is read in parallel.
_MAX_DELAY_SECONDS = 10.0


class PathHistory:
    """The files of `path` in the order in which they were there.

    `files` are being read; the last of them is `live` if there is a file at the path. `finished` still exist on disk,
    or are not committed yet.
    """

    __slots__ = ("files", "finished", "is_path_taken", "live", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: list[FollowedFile] = []
        self.finished: list[FollowedFile] = []
        self.live: FollowedFile | None = None
        self.is_path_taken = False  # by a file that belongs to another path, or by something that is not a file

    def all_files(self) -> list[FollowedFile]:
        return [*self.files, *self.finished]

    def rotated_files(self) -> list[FollowedFile]:
        """The files being read that are no longer at the path."""
        return [file for file in self.files if file is not self.live]

    def readable(self, now: float) -> Iterator[FollowedFile]:
        """The files that can be read now. A file must wait until earlier ones are read."""
        for file in self.files:
            yield file
            if file.delays_next(now, _MAX_DELAY_SECONDS):
                return

    @property
    def is_settled(self) -> bool:
        """Whether the file at the path is the only one to read."""
        return not self.files or (self.live is not None and len(self.files) == 1)

    @property
    def changed_at(self) -> float:
        """When one of its files last changed, on the tail's clock."""
        return max((file.changed_at for file in self.files), default=float("-inf"))

    def set_live(self, file: FollowedFile) -> None:
        """Record that the file is at the path. It may have been there before."""
        for files in (self.files, self.finished):
            if file in files:
                files.remove(file)
        file.return_to_path()
        self.files.append(file)
        self.live = file

    def live_left(self, now: float) -> None:
        """Record that the live file is no longer at the path."""
        if self.live is not None:
            self.live.leave(now)
            self.live = None

    def live_truncated(self, now: float) -> None:
        """Record that the content of the live file is no longer at the path."""
        if self.live is not None:
            self.live.leave_truncated(now)
            self.live = None

    def finish(self, file: FollowedFile) -> None:
        """Record that a rotated file was read completely."""
        file.finish()
        self.files.remove(file)
        self.finished.append(file)

    def reopen(self, file: FollowedFile) -> None:
        """Record that a finished file was written to again."""
        file.reopen()
        self.finished.remove(file)
        self.files.insert(0, file)

    def vanished(self, file: FollowedFile) -> None:
        """Record that the file no longer exists. It is kept until it is committed."""
        if self.live is file:
            self.live = None
        if file in self.files:
            self.files.remove(file)
            self.finished.append(file)
