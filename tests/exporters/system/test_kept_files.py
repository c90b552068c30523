"""Kernel files that stay open between runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deckwatch_exporters.system.kept_files import KeptFiles

CONSTANT = [
    f"/proc/{name}"
    for name in ("version", "sys/kernel/osrelease", "filesystems", "sys/kernel/ostype", "sys/kernel/pid_max")
]


def test_a_replaced_file_is_reopened_once_the_old_descriptor_fails() -> None:
    files = KeptFiles(10)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        path = f"/proc/{child.pid}/stat"
        assert files.read(path).startswith(f"{child.pid} (")
        child.kill()
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        files.read(path)
    assert len(files) == 0


def test_open_descriptors_are_limited_and_the_remaining_files_are_still_read() -> None:
    files = KeptFiles(2)

    before = len(os.listdir("/proc/self/fd"))
    read = [files.read(path) for _ in range(2) for path in CONSTANT]

    assert read == [Path(path).read_text() for path in CONSTANT] * 2
    assert len(files) == 2
    assert len(os.listdir("/proc/self/fd")) == before + 2
    files.forget_others({CONSTANT[1]})
    assert files.paths() == {CONSTANT[1]}
    assert len(os.listdir("/proc/self/fd")) == before + 1


def test_an_open_file_shows_new_content() -> None:
    files = KeptFiles()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        path = f"/proc/{child.pid}/oom_score_adj"
        before = files.read(path)
        Path(path).write_text("500")
        after = files.read(path)
        child.kill()

    assert (len(files), before != after, after) == (1, True, "500\n")


def test_a_file_that_the_kernel_returns_in_pieces_is_read_to_its_end() -> None:
    files = KeptFiles()
    counts = {files.read("/proc/self/smaps").count("VmFlags:") for _ in range(3)}

    assert len(files) == 1
    assert min(counts) > 20


def test_a_file_that_is_not_of_the_kernel_can_be_replaced(tmp_path: Path) -> None:
    files = KeptFiles()
    found = []
    for content in ("old", "new"):
        (tmp_path / "next").write_text(content)
        (tmp_path / "next").rename(tmp_path / "file")
        found.append(files.read(str(tmp_path / "file")))

    assert found == ["old", "new"]
