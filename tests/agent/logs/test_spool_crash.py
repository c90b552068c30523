"""The spool after real SIGKILLs and on real full disks."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deckwatch.logs.spool.spool import Spool, SpoolError

from .spool_writer import number_in, opened, payload

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITER = Path(__file__).with_name("spool_writer.py")
KILLS = 100 if os.environ.get("DECKWATCH_SOAK") else 30
SPREAD = 0.03  # maximum seconds between the first write and the kill


def killed_at_a_random_moment(folder: Path, mode: str, moment: random.Random) -> None:
    """Run a writer for a short time after its first write, or sometimes kill it even earlier."""
    end = max(folder.glob("*.log"), default=None)
    early = moment.random() < 0.1
    deadline = time.monotonic() + (moment.uniform(0, 0.2) if early else 60)
    writer = subprocess.Popen([sys.executable, WRITER, folder, mode])
    try:
        while max(folder.glob("*.log"), default=None) == end:
            if time.monotonic() > deadline:
                assert early, "the writer wrote nothing"
                break
            time.sleep(0.001)
        time.sleep(moment.uniform(0, SPREAD))
    finally:
        writer.kill()
        writer.wait()


def test_repeated_kills_of_the_writer_leave_every_number_once_and_in_order(tmp_path: Path) -> None:
    moment = random.Random(20)
    seen = kills = 0
    while kills < KILLS or seen <= KILLS * 10:
        kills += 1
        killed_at_a_random_moment(tmp_path, "append", moment)
        spool = opened(tmp_path)
        reader = spool.reader("loki")
        while read := reader.read(1024**2):
            numbers = [number_in(data) for _, data in read]
            assert numbers == list(range(seen, seen + len(read)))
            seen += len(read)
            spool.release(reader.acknowledged)  # not the last ones: the next writer continues from them
            reader.acknowledge(read[-1][0])
        assert spool.damaged == 0
        spool.close()


def test_repeated_kills_of_writer_and_reader_leave_no_gap(tmp_path: Path) -> None:
    moment = random.Random(21)
    newest = -1
    acknowledged = -1
    kills = 0
    while kills < KILLS or acknowledged <= KILLS * 10:
        kills += 1
        killed_at_a_random_moment(tmp_path, "ship", moment)
        spool = opened(tmp_path)
        numbers = [number_in(data) for _, data in spool.records()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1)) if numbers else newest < 0
        pending = [number_in(data) for _, data in spool.reader("loki").read(10**9)]
        assert pending == numbers[len(numbers) - len(pending) :]
        assert spool.damaged == 0
        spool.close()
        if numbers:
            assert numbers[-1] >= newest, "what was there before is lost"
            assert numbers[-1] - len(pending) >= acknowledged, "what was acknowledged came back"
            newest, acknowledged = numbers[-1], numbers[-1] - len(pending)


@pytest.mark.parametrize("limit", [20, 5000, 5001, 30_000])
def test_a_short_write_leaves_nothing_of_its_record(tmp_path: Path, limit: int) -> None:
    command = [sys.executable, str(WRITER), str(tmp_path), "limited", str(limit)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["errno"] == errno.EFBIG
    assert result["size"] == result["end"][1] <= limit
    assert result["last"] in (result["end"], None)
    assert result["numbers"] == list(range(len(result["numbers"])))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(spool: Spool, first: int) -> int:
    """Append numbers until the disk is full. Return the next number."""
    error: int | None = None
    while error is None:
        try:
            spool.append(payload(first))
            first += 1
        except OSError as failed:
            error = failed.errno
    assert error == errno.ENOSPC
    return first


def numbers_in(spool: Spool) -> list[int]:
    return [number_in(data) for _, data in spool.records()]


def test_a_full_disk_keeps_complete_records_and_writing_resumes_when_there_is_space(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(300_000))
    spool = opened(small_disk / "spool")
    count = fill(spool, 0)
    for _ in range(3):
        assert fill(spool, count) >= count  # a smaller record may still fit
        count = len(numbers_in(spool))
    assert numbers_in(spool) == list(range(count))
    on_disk = sum(path.stat().st_size for path in (small_disk / "spool").glob("*.log"))
    assert spool.disk_bytes == on_disk
    (small_disk / "other").unlink()
    more = fill(spool, count)
    assert more > count
    spool.sync()
    spool.close()
    spool = opened(small_disk / "spool")
    assert numbers_in(spool) == list(range(more))
    assert spool.damaged == 0
    spool.close()


def test_acknowledgements_free_a_disk_that_the_spool_filled(small_disk: Path) -> None:
    spool = opened(small_disk)
    reader = spool.reader("loki")
    count = fill(spool, 0)
    read = reader.read(10**9)
    assert len(read) == count
    spool.release(spool.end)
    reader.acknowledge(read[-1][0])
    more = fill(spool, count)
    assert more > count + count // 2
    assert [number_in(data) for _, data in reader.read(10**9)] == list(range(count, more))
    spool.close()


def test_the_acknowledgement_of_a_single_segment_frees_a_full_disk(small_disk: Path) -> None:
    spool = Spool(small_disk, 64 * 1024**2, "block", 8 * 1024**2, lambda *_: None)
    reader = spool.reader("loki")
    count = fill(spool, 0)
    assert len(list(small_disk.glob("*.log"))) == 1
    place = reader.read(10**9)[-1][0]
    with pytest.raises(OSError, match="No space left"):
        reader.acknowledge(place)  # no space for the acknowledgement file
    spool.release(place)
    with pytest.raises(OSError, match="No space left"):
        spool.append(payload(count))  # it notices, and deletes the segment
    assert fill(spool, count) > count + count // 2
    spool.close()


def test_a_spool_on_a_full_disk_can_be_read(small_disk: Path) -> None:
    spool = opened(small_disk / "spool")
    spool.append(payload(0))
    spool.close()
    (small_disk / "spool" / "lock").unlink()
    with (small_disk / "other").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(small_disk).free == 0
    spool = opened(small_disk / "spool")
    assert numbers_in(spool) == [0]
    assert spool.reader("loki").read(100)[0][0] == spool.end
    spool.close()


def test_a_read_only_folder_is_reported(small_disk: Path) -> None:
    opened(small_disk).close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for folder in (small_disk, small_disk / "new"):
        with pytest.raises(SpoolError, match=rf"cannot write to the spool {folder} .*: set --state-dir or"):
            opened(folder)
