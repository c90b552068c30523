"""The quarantine stores rejected entries on disk, one JSON object per line."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from deckwatch.logs.loki.quarantine import Quarantine, entries

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {"job": "app"}


def test_entries_are_stored_with_their_reason(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    Quarantine(folder).add(
        "eu", [("too_old", LABELS, ["5", "line\n", {"k": "v"}]), ("too_new", LABELS, ["6", "b"])], now=1.5
    )
    common = {"set_aside": 1.5, "destination": "eu", "labels": LABELS}
    assert list(entries(folder)) == [
        {**common, "reason": "too_old", "time": 5, "line": "line\n", "metadata": {"k": "v"}},
        {**common, "reason": "too_new", "time": 6, "line": "b", "metadata": {}},
    ]
    assert (folder / "quarantine.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_empty_quarantine_has_no_entries(tmp_path: Path) -> None:
    assert list(entries(tmp_path)) == []


def test_a_full_file_is_rotated_and_the_previous_one_is_kept(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, max_bytes=1000)
    for number in range(20):
        quarantine.add("eu", [("r", LABELS, [str(number), "x" * 300])])
    kept = [entry["time"] for entry in entries(tmp_path)]
    assert kept == list(range(20 - len(kept), 20))
    assert 2 <= len(kept) <= 5
    assert sorted(os.listdir(tmp_path)) == ["quarantine.jsonl", "quarantine.jsonl.1"]


def test_an_incomplete_line_after_a_crash_affects_no_other_line(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.add("eu", [("r", LABELS, ["1", "a"])])
    with quarantine.path.open("ab") as file:
        file.write(b'{"reason": "r", "ti')
    quarantine.add("eu", [("r", LABELS, ["2", "b"])])
    assert [entry["time"] for entry in entries(tmp_path)] == [1, 2]


def test_a_folder_that_is_not_writable_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(OSError, match=r"exists|directory"):
        Quarantine(tmp_path / "logs").add("eu", [("r", LABELS, ["1", "a"])])


def test_several_destinations_share_the_file(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)

    def add(name: str) -> None:
        for number in range(50):
            quarantine.add(name, [("r", LABELS, [str(number), "x" * 200])] * 3)

    threads = [threading.Thread(target=add, args=(name,)) for name in ("eu", "us")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(entries(tmp_path))) == 300
