"""The files that a tail knows, by inode, and which of them are open."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from deckwatch.logs.tailing.followed_file import FollowedFile, Stage

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from deckwatch.logs.entry import Position


class KnownFiles:
    """Files by inode and by key. When too many are open, the least recently used ones are closed."""

    def __init__(self, max_line: int, max_open: int, encoding: str = "utf-8") -> None:
        self._max_line = max_line
        self._encoding = encoding
        self._max_open = max_open
        self._by_inode: dict[tuple[int, int], FollowedFile] = {}
        self._by_key: dict[str, FollowedFile] = {}
        self._open: OrderedDict[FollowedFile, None] = OrderedDict()

    def restore(self, key: str, position: Position) -> FollowedFile:
        """Add a file of an earlier run. Where it is now is unknown until `found_at`."""
        file = FollowedFile(key, position, self._max_line, self._encoding)
        self._by_key[key] = self._by_inode[file.inode] = file
        return file

    def add(self, path: str, current_path: str, status: os.stat_result, now: float, after: str = "") -> FollowedFile:
        """Add a new file. `after` is the key of the file that had this inode before: a key is not used again."""
        inode = status.st_dev, status.st_ino
        key = name = f"{inode[0]}:{inode[1]}"
        generation = 1
        if after == name or after.startswith(name + ":"):
            generation = int(after[len(name) + 1 :] or 1) + 1
            key = f"{name}:{generation}"
        while key in self._by_key:
            generation += 1
            key = f"{name}:{generation}"
        file = FollowedFile.found(path, key, current_path, status, now, self._max_line, self._encoding)
        self._by_key[key] = self._by_inode[inode] = file
        if status.st_size:
            # It may be gone from its path before its turn to be read comes.
            with contextlib.suppress(OSError):
                self.open(file)
                file.take_fingerprint()
        return file

    def found_at(self, file: FollowedFile, current_path: str) -> None:
        """The file was found at this path."""
        file.found_at(current_path)
        self._by_inode[file.inode] = file

    def continue_in_copy(self, file: FollowedFile, current_path: str, status: os.stat_result, now: float) -> None:
        """The file's content is in the copy at this path now."""
        self.close(file)
        self._release_inode(file)
        file.continue_in_copy(current_path, status, now)
        self._by_inode[file.inode] = file

    def continue_in_replacement(
        self, file: FollowedFile, current_path: str, status: os.stat_result, now: float
    ) -> None:
        """Another file, which has all of the file's content, has taken its place."""
        self.close(file)
        self._release_inode(file)
        file.continue_in_replacement(current_path, status, now)
        self._by_inode[file.inode] = file

    def vanished(self, file: FollowedFile) -> None:
        """The file no longer exists. What was read of it can still be committed."""
        self.close(file)
        file.vanish()
        self._release_inode(file)

    def forget(self, file: FollowedFile) -> None:
        """Remove a file that no longer exists, or no longer matters."""
        self.vanished(file)
        if self._by_key.get(file.key) is file:
            del self._by_key[file.key]

    def has(self, file: FollowedFile) -> bool:
        return self._by_key.get(file.key) is file

    def by_inode(self, inode: tuple[int, int]) -> FollowedFile | None:
        return self._by_inode.get(inode)

    def all(self) -> Iterable[FollowedFile]:
        return self._by_key.values()

    def open(self, file: FollowedFile) -> None:
        """Open the file unless it is open. Raises OSError as `FollowedFile.open` does."""
        opened = self._open
        if file.is_open:
            opened.move_to_end(file)
            return
        file.open()
        opened[file] = None
        if len(opened) > self._max_open:
            # Close live files first: one that left its path may be hard to find again, or deleted.
            others = [other for other in opened if other is not file and not other.is_deleted]
            least = next((other for other in others if other.stage is Stage.LIVE), others[0] if others else None)
            if least is not None:
                self.close(least)

    def close(self, file: FollowedFile) -> None:
        file.close()
        self._open.pop(file, None)

    def close_all(self) -> None:
        for file in list(self._open):
            self.close(file)

    def _release_inode(self, file: FollowedFile) -> None:
        if self._by_inode.get(file.inode) is file:
            del self._by_inode[file.inode]
