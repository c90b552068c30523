"""Folders that an application cannot use: it goes on, says so once, and keeps its metrics in the process."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from counting_app import collect, run, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IS_ROOT = os.geteuid() == 0


@contextmanager
def small_file_system(path: Path, size: str) -> Iterator[None]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.skipif(not IS_ROOT, reason="mounting a file system needs root")
def test_a_full_file_system_leaves_the_application_alone_and_says_so_once(tmp_path: Path) -> None:
    code = """
work(5)
for number in range(900):
    counter(f"made_{number}_total", "A" * 1000).inc()
print(orders.labels("paid")._value.get(),)
work(5)
"""
    with small_file_system(tmp_path / "small", "256k"):
        errors = run(tmp_path / "small", code)

        assert errors.count("metrics are not shared with the agent") == 1
        assert "No space left on device" in errors
        collected = collect(tmp_path / "small")
        assert collected.value("orders_total", service="shop", status="paid") == 10
        assert collected.value("made_1_total", service="shop") == 1


def test_a_folder_that_is_removed_leaves_the_application_alone(tmp_path: Path) -> None:
    code = """
work(5)
print("ready", flush=True)
input()
for number in range(900):
    orders.labels(f"after {number}").inc()
gauge("late", mode="max").set(5)
for metric in (orders.labels("paid"), orders.labels("after 899"), gauge("late", mode="max")):
    print(metric._value.get())
"""
    process = start(tmp_path, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    shutil.rmtree(tmp_path / "shop")
    output, errors = process.communicate("\n", timeout=60)

    assert output.split() == ["5.0", "1.0", "5.0"], errors
    assert errors.count("metrics are not shared with the agent") == 1


@pytest.mark.skipif(not IS_ROOT, reason="a read-only mount needs root")
def test_a_read_only_folder_leaves_the_application_alone_and_says_so_once(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small", "1m"):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "small")], check=True)

        errors = run(tmp_path / "small", "work(5); assert orders.labels('paid')._value.get() == 5")

    assert errors.count("metrics are not shared with the agent") == 1
    assert "Read-only file system" in errors
