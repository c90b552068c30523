"""The figures of the kernel's text files, read strictly: what is not one is named together with its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIMIT = 1 << 64  # the widest counter that the kernel prints


def figures(words: Sequence[str], file: str) -> list[int]:
    """The words as unsigned numbers of up to 64 bits. Raises ValueError, with `file` in it, for anything else."""
    try:
        found = list(map(int, words))
    except ValueError:
        found = [-1]
    if found and not (min(found) >= 0 and max(found) < _LIMIT):
        raise ValueError(f"{file}: not figures: {' '.join(words)[:80]!r}")
    return found


def figure(word: str, file: str) -> int:
    """One of them."""
    return figures((word,), file)[0]
