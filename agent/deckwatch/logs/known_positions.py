"""Which rule the positions of an earlier run belong to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.logs.entry import Position
    from deckwatch.logs.tailing.discovery import Discovery


def rule_names(files: Iterable[FileSettings]) -> list[str]:
    """Return the name of each rule in the checkpoint: its pattern, numbered if several rules share it."""
    names: list[str] = []
    for one in files:
        number = sum(name.partition("\n")[0] == one.path for name in names)
        names.append(f"{one.path}\n{number}" if number else one.path)
    return names


def checkpoint_key(rule: str, file: str) -> str:
    """Return the checkpoint key of a file and a rule: two rules may follow one file. File keys contain no space."""
    return f"{file} {rule}"


def adopted_positions(
    pattern: Discovery, own: dict[str, Position], orphaned: Mapping[str, Position], adopted: set[str]
) -> dict[str, Position]:
    """A rule's positions, and those that another rule left of files that this one matches, by path or inode.

    Adds the keys of the latter to `adopted`.
    """
    found = dict(own)
    known = {(position.identity.device, position.identity.inode) for position in own.values()}
    moved: dict[tuple[int, int], str] = {}
    for key, position in orphaned.items():
        inode = position.identity.device, position.identity.inode
        if inode in known:
            continue
        if pattern.matches(position.path):
            adopted.add(key)
            found.setdefault(key.partition(" ")[0], position)
        else:
            moved[inode] = key
    for path in (pattern.find(0.0) or ()) if moved else ():
        try:
            status = os.stat(path)
        except OSError:
            continue
        other = moved.get((status.st_dev, status.st_ino))
        if other is not None:
            adopted.add(other)
            found.setdefault(other.partition(" ")[0], orphaned[other]._replace(path=path))
    return found


def positions_of(rule: str, positions: dict[str, Position]) -> dict[str, Position]:
    """Return the positions of a rule by the key of the file."""
    found = {}
    for key, position in positions.items():
        file, _, of = key.partition(" ")
        if of == rule:
            found[file] = position
    return found
