"""The files that were at one path, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.logs.tailing.followed_file import FollowedFile

# Where a writer holds on longer than that, the next file is read beside it.
_HOLDS_SECONDS = 10.0


class PathHistory:
    """`files` are being read, in that order; `live`, the last of them, is at the path now. `finished` still exist."""

    __slots__ = ("files", "finished", "live", "path", "replaced")

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: list[FollowedFile] = []
        self.finished: list[FollowedFile] = []
        self.live: FollowedFile | None = None
        self.replaced = False  # by a file that belongs to another path

    def readable(self, now: float) -> Iterator[FollowedFile]:
        """The files whose turn it is."""
        for file in self.files:
            yield file
            if file.left is not None and not (file.caught_up and now - file.left > _HOLDS_SECONDS):
                return

    @property
    def settled(self) -> bool:
        """Whether nothing is under way: the file at the path is the only one."""
        return not self.files or (self.live is not None and len(self.files) == 1)

    @property
    def changed(self) -> float:
        """When one of its files last changed, on the tail's clock."""
        return max((file.changed for file in self.files), default=float("-inf"))
