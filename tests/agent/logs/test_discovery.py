"""The files that a pattern matches."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from deckwatch.logs.tailing.discovery import Discovery

if TYPE_CHECKING:
    from pathlib import Path


def found(pattern: str, *exclude: str) -> list[str]:
    return Discovery(pattern, exclude, lambda *_: None).find(0.0) or []


def tree(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.log", ["a.log"]),
        ("*.log", ["a.log", "b.log"]),
        ("[ab].lo?", ["a.log", "b.log"]),
        ("*/c.log", ["x/c.log"]),
        ("**/c.log", ["x/c.log", "x/y/c.log"]),
        ("**/*.log", ["a.log", "b.log", "x/c.log", "x/y/c.log"]),
        ("x/**", ["x/c.log", "x/y/c.log"]),
        ("**/**/y/*", ["x/y/c.log"]),
        (".h*", [".hidden.log"]),
        ("{a,b}.log", ["a.log", "b.log"]),
        ("{a,x/c,missing}.log", ["a.log", "x/c.log"]),
        ("{x/{c,d},**/y/c}.log", ["x/c.log", "x/y/c.log"]),
        ("{a}.log", []),
        ("nothing*", []),
        ("missing/*", []),
    ],
)
def test_patterns_match_as_in_a_shell(tmp_path: Path, pattern: str, names: list[str]) -> None:
    tree(tmp_path, "a.log", "b.log", ".hidden.log", "c.log.gz", "x/c.log", "x/y/c.log", ".git/c.log")
    paths = found(f"{tmp_path}/{pattern}")
    assert paths == [f"{tmp_path}/{name}" for name in names]
    discovery = Discovery(f"{tmp_path}/{pattern}", (), lambda *_: None)
    assert all(discovery.matches(path) for path in paths)


def test_exclude_takes_names_and_whole_paths(tmp_path: Path) -> None:
    tree(tmp_path, "a.log", "b.log", "x/a.log", "x/c.log")
    assert found(f"{tmp_path}/**/*.log", "a.*", f"{tmp_path}/x/*") == [f"{tmp_path}/b.log"]


def test_a_folder_is_listed_again_only_after_a_change(tmp_path: Path) -> None:
    tree(tmp_path, "a.log")
    os.utime(tmp_path, (1, 1))
    discovery = Discovery(f"{tmp_path}/*.log", (), lambda *_: None)
    assert discovery.find(0.0) == [f"{tmp_path}/a.log"]
    assert discovery.find(0.25) is None
    tree(tmp_path, "b.log")
    assert discovery.find(0.5) == [f"{tmp_path}/a.log", f"{tmp_path}/b.log"]


def test_recursive_patterns_are_walked_every_ten_seconds(tmp_path: Path) -> None:
    tree(tmp_path, "x/a.log")
    discovery = Discovery(f"{tmp_path}/*/a.log", (), lambda *_: None)
    assert discovery.find(0.0) == [f"{tmp_path}/x/a.log"]
    tree(tmp_path, "y/a.log")
    assert discovery.find(5.0) is None
    assert discovery.find(10.0) == [f"{tmp_path}/x/a.log", f"{tmp_path}/y/a.log"]


def test_a_link_to_its_own_folder_causes_no_endless_walk(tmp_path: Path) -> None:
    tree(tmp_path, "x/a.log")
    (tmp_path / "x" / "again").symlink_to(tmp_path / "x")
    assert found(f"{tmp_path}/**/a.log") == [f"{tmp_path}/x/a.log"]
