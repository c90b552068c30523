"""The spool in normal operation: order, acknowledgements, size limits, several readers and threads."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deckwatch.logs.spool.spool import Cursor, Spool, SpoolError, SpoolFull
from services import until

MIB = 1024**2


class Dropped(list[bytes]):
    def __call__(self, payload: bytes, reason: str) -> None:
        assert reason == "full"
        self.append(payload)


def opened(folder: Path, max_bytes: int = MIB, when_full: str = "block", segment_bytes: int = 4096) -> Spool:
    return Spool(folder, max_bytes, when_full, segment_bytes, Dropped())


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.log"))


def all_of(spool: Spool) -> list[bytes]:
    return [payload for _, payload in spool.records()]


def numbered(count: int, size: int = 100) -> list[bytes]:
    return [(b"%d " % number).ljust(size, b".") for number in range(count)]


def fill(spool: Spool, payloads: list[bytes]) -> list[Cursor]:
    """Append the payloads and return their cursors."""
    places: list[Cursor] = []
    with contextlib.suppress(SpoolFull):
        places.extend(spool.append(payload) for payload in payloads)
    return places


def test_payloads_are_read_in_order_across_segments_and_restarts(tmp_path: Path) -> None:
    payloads = [*numbered(100), b"", os.urandom(10_000), b"\0" * 5000]
    spool = opened(tmp_path)
    for payload in payloads[:50]:
        spool.append(payload)
    spool.close()
    spool = opened(tmp_path)
    for payload in payloads[50:]:
        spool.append(payload)
    assert all_of(spool) == payloads
    assert len(list(tmp_path.glob("*.log"))) > 3
    spool.close()
    again = opened(tmp_path)
    assert all_of(again) == payloads
    assert again.damaged == 0
    again.close()


def test_cursors_are_ordered_and_reading_continues_from_them(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    payloads = numbered(100)
    places = [spool.append(payload) for payload in payloads]
    assert places == sorted(set(places))
    assert spool.end == places[-1]
    assert list(spool.records()) == list(zip(places, payloads, strict=True))
    assert list(spool.records(places[41])) == list(zip(places[42:], payloads[42:], strict=True))
    assert list(spool.records(spool.end)) == []
    spool.close()


def test_records_from_the_end_of_an_empty_spool_are_the_new_ones(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    end = spool.end
    spool.append(b"first")
    assert [payload for _, payload in spool.records(end)] == [b"first"]
    spool.close()


def test_no_cursor_is_reused_even_if_all_files_were_deleted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    last = spool.append(b"first")
    spool.close()
    for path in tmp_path.iterdir():
        path.unlink()
    spool = opened(tmp_path)
    assert spool.end > last
    spool.close()


def test_a_read_returns_up_to_max_bytes_but_at_least_one_payload(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    payloads = numbered(10)
    for payload in [*payloads, b"x" * 20_000, b"y"]:
        spool.append(payload)
    assert [payload for _, payload in reader.read(399)] == payloads[:3]
    assert [payload for _, payload in reader.read(700)] == payloads[3:]
    assert [payload for _, payload in reader.read(1)] == [b"x" * 20_000]
    assert [payload for _, payload in reader.read(1)] == [b"y"]
    assert reader.read(1) == []
    spool.close()


def test_a_reader_continues_after_its_acknowledged_cursor(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    payloads = numbered(100)
    for payload in payloads:
        spool.append(payload)
    read = reader.read(5000)
    reader.acknowledge(read[29][0])
    reader.acknowledge(read[9][0])  # an older cursor has no effect
    assert reader.read(100)[0][1] == payloads[50]
    reader.rewind()
    assert reader.read(100)[0][1] == payloads[30]
    spool.close()
    spool = opened(tmp_path)
    assert spool.reader("loki").read(100)[0][1] == payloads[30]
    assert spool.reader("another").read(100)[0][1] == payloads[0]
    spool.close()


def test_names_of_readers_may_contain_any_character(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    names = ["127.0.0.1:3100", "../a/b", "", "ä ö", "%2F"]
    place = spool.append(b"first")
    for reader in [spool.reader(name) for name in names]:
        reader.acknowledge(place)
    assert len(list(tmp_path.glob("*.ack"))) == len(names)
    spool.close()
    assert not list(tmp_path.glob("**/*.tmp"))


def test_two_readers_with_one_name_are_rejected(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.reader("loki")
    with pytest.raises(SpoolError, match="two destinations are named 'loki': give each a unique name"):
        spool.reader("loki")
    spool.close()


def test_a_cursor_beyond_the_end_cannot_be_acknowledged(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    segment, offset = spool.append(b"first")
    with pytest.raises(ValueError, match="beyond the end"):
        spool.reader("loki").acknowledge(Cursor(segment, offset + 1))
    spool.close()


def test_a_segment_is_deleted_when_it_is_released_and_all_readers_acknowledged_it(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    one, two = spool.reader("one"), spool.reader("two")
    places = [spool.append(payload) for payload in numbered(200)]
    count = len(list(tmp_path.glob("*.log")))
    one.acknowledge(places[-1])
    spool.release(places[-1])
    assert len(list(tmp_path.glob("*.log"))) == count
    two.acknowledge(places[100])
    assert 1 < len(list(tmp_path.glob("*.log"))) < count
    assert all_of(spool)[-99:] == numbered(200)[101:]
    two.acknowledge(places[-1])
    assert len(list(tmp_path.glob("*.log"))) == 1
    spool.close()


def test_an_unreleased_segment_is_kept_even_if_all_readers_acknowledged_it(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    places = [spool.append(payload) for payload in numbered(200)]
    reader.acknowledge(places[-1])
    assert all_of(spool) == numbered(200)
    spool.release(places[100])
    assert all_of(spool)[-99:] == numbered(200)[101:]
    assert len(all_of(spool)) < 200
    spool.close()


def test_sizes_are_reported_for_the_disk_and_the_slowest_reader(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    one, two = spool.reader("one"), spool.reader("two")
    assert (spool.bytes, spool.disk_bytes) == (0, 0)
    places = [spool.append(payload) for payload in numbered(200)]
    assert spool.disk_bytes == on_disk(tmp_path)
    assert spool.bytes == 200 * 110
    one.acknowledge(places[-1])
    two.acknowledge(places[149])
    assert (one.pending_bytes, two.pending_bytes, spool.bytes) == (0, 50 * 110, 50 * 110)
    spool.release(places[-1])
    assert spool.disk_bytes == on_disk(tmp_path) < 100 * 110
    spool.close()


@pytest.mark.parametrize("when_full", ["block", "drop_newest"])
def test_a_full_spool_rejects_payloads_until_space_is_freed(tmp_path: Path, when_full: str) -> None:
    spool = opened(tmp_path, 20_000, when_full)
    reader = spool.reader("loki")
    places = fill(spool, numbered(1000))
    with pytest.raises(SpoolFull, match="is full: it contains"):
        spool.append(numbered(1)[0])
    assert 15_000 < on_disk(tmp_path) <= 20_000
    assert all_of(spool) == numbered(1000)[: len(places)]
    reader.acknowledge(places[-1])
    with pytest.raises(SpoolFull):
        spool.append(b"x" * 10_000)
    spool.release(places[-1])
    spool.append(b"x" * 19_000)
    assert on_disk(tmp_path) <= 20_000
    assert [payload for _, payload in reader.read(1)] == [b"x" * 19_000]
    spool.close()


def test_a_full_spool_drops_its_oldest_segments_and_reports_each_payload(tmp_path: Path) -> None:
    dropped = Dropped()
    spool = Spool(tmp_path, 20_000, "drop_oldest", 4096, dropped)
    reader = spool.reader("loki")
    payloads = numbered(1000)
    for payload in payloads:
        spool.append(payload)
        assert on_disk(tmp_path) == spool.disk_bytes <= 20_000
    left = [payload for _, payload in reader.read(MIB)]
    assert dropped + left == payloads
    assert sum(map(len, left)) > 15_000
    spool.close()


def test_payloads_acknowledged_by_all_are_deleted_without_being_reported_as_dropped(tmp_path: Path) -> None:
    dropped = Dropped()
    spool = Spool(tmp_path, 20_000, "drop_oldest", 4096, dropped)
    one, two = spool.reader("one"), spool.reader("two")
    payloads = numbered(100)
    places = [spool.append(payload) for payload in payloads]
    one.acknowledge(places[80])
    two.acknowledge(places[19])
    for payload in numbered(1000)[100:]:
        spool.append(payload)
    assert dropped[:3] == payloads[20:23]
    assert dropped + all_of(spool) == [*payloads[20:], *numbered(1000)[100:]]
    spool.close()


def test_a_reader_within_a_dropped_segment_continues_with_the_oldest_remaining_record(tmp_path: Path) -> None:
    dropped = Dropped()
    spool = Spool(tmp_path, 20_000, "drop_oldest", 4096, dropped)
    reader = spool.reader("loki")
    payloads = numbered(1000)
    for payload in payloads[:100]:
        spool.append(payload)
    read = reader.read(500)
    for payload in payloads[100:]:
        spool.append(payload)
    reader.acknowledge(read[-1][0])  # it was dropped in the meantime, but arrived nevertheless
    left = [payload for _, payload in reader.read(MIB)]
    assert left == payloads[-len(left) :]
    spool.sync()
    assert [payload for _, payload in read] + dropped + left == payloads
    spool.close()


def test_payloads_dropped_in_flight_are_reported_when_they_must_be_read_again(tmp_path: Path) -> None:
    dropped = Dropped()
    spool = Spool(tmp_path, 20_000, "drop_oldest", 4096, dropped)
    reader = spool.reader("loki")
    payloads = numbered(1000)
    for payload in payloads[:100]:
        spool.append(payload)
    assert reader.read(500)
    for payload in payloads[100:]:
        spool.append(payload)
    reader.rewind()
    spool.sync()
    left = [payload for _, payload in reader.read(MIB)]
    assert sorted(dropped + left) == sorted(payloads)
    spool.close()


def test_the_current_segment_is_dropped_if_it_is_the_only_one(tmp_path: Path) -> None:
    dropped = Dropped()
    spool = Spool(tmp_path, 1000, "drop_oldest", MIB, dropped)
    for size in (900, 950, 10, 970):
        spool.append(b"x" * size)
        assert on_disk(tmp_path) <= 1000
    assert [len(payload) for payload in dropped] == [900, 950, 10]
    assert [len(payload) for payload in all_of(spool)] == [970]
    spool.close()


@pytest.mark.parametrize("when_full", ["block", "drop_newest", "drop_oldest"])
def test_a_payload_larger_than_the_spool_is_rejected_and_drops_nothing(tmp_path: Path, when_full: str) -> None:
    spool = opened(tmp_path, 1000, when_full)
    spool.append(b"first")
    with pytest.raises(SpoolFull, match="a payload of 1000 bytes exceeds the spool's limit"):
        spool.append(b"x" * 1000)
    assert all_of(spool) == [b"first"]
    spool.close()


def test_a_spool_with_a_reduced_limit_drops_down_to_it(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for payload in numbered(1000):
        spool.append(payload)
    spool.close()
    dropped = Dropped()
    spool = Spool(tmp_path, 20_000, "drop_oldest", 4096, dropped)
    spool.append(b"last")
    assert on_disk(tmp_path) <= 20_000
    assert dropped + all_of(spool) == [*numbered(1000), b"last"]
    spool.close()


def test_a_read_waits_for_an_append(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.extend(it[1] for it in reader.read(MIB, 3600.0)), daemon=True)
    thread.start()
    spool.append(b"first")
    thread.join(60)
    assert read == [b"first"]
    spool.close()


def test_a_waiting_read_returns_nothing_after_max_wait_or_close(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    assert reader.read(MIB, 0.01) == []
    read: list[object] = []
    thread = threading.Thread(target=lambda: read.append(reader.read(MIB, 3600.0)), daemon=True)
    thread.start()
    spool.close()
    thread.join(60)
    assert read == [[]]
    spool.wait(3600.0)  # at once
    with pytest.raises(ValueError, match="closed"):
        spool.append(b"late")


def test_an_acknowledgement_frees_space_for_a_waiting_writer(tmp_path: Path) -> None:
    spool = opened(tmp_path, 20_000)
    reader = spool.reader("loki")
    read: list[bytes] = []

    def ship() -> None:
        while len(read) < 1000:
            for place, payload in reader.read(1000, 0.1):
                read.append(payload)
                last = place
            reader.acknowledge(last)

    thread = threading.Thread(target=ship)
    thread.start()
    deadline = time.monotonic() + 60
    for payload in numbered(1000):
        while True:
            try:
                spool.append(payload)
                break
            except SpoolFull:
                assert time.monotonic() < deadline
                spool.release(spool.end)
                spool.wait(0.05)
    thread.join(60)
    assert read == numbered(1000)
    spool.close()


def test_readers_in_separate_threads_get_every_payload_once_and_in_order(tmp_path: Path) -> None:
    spool = opened(tmp_path, 64 * MIB, segment_bytes=20_000)
    count = 20_000
    seen: dict[str, list[int]] = {"one": [], "two": []}

    def ship(name: str) -> None:
        while len(seen[name]) < count:
            payloads = reader[name].read(5000, 1.0)
            seen[name] += [int(payload.split()[0]) for _, payload in payloads]
            if payloads:
                reader[name].acknowledge(payloads[-1][0])

    reader = {name: spool.reader(name) for name in seen}
    threads = [threading.Thread(target=ship, args=(name,)) for name in seen]
    for thread in threads:
        thread.start()
    for payload in numbered(count, 20):
        spool.release(spool.append(payload))
    for thread in threads:
        thread.join(60)
    assert seen == {"one": list(range(count)), "two": list(range(count))}
    assert len(list(tmp_path.glob("*.log"))) == 1
    assert spool.damaged == 0
    spool.close()


def test_dropping_while_readers_read_counts_every_payload(tmp_path: Path) -> None:
    dropped = Dropped()
    spool = Spool(tmp_path, 20_000, "drop_oldest", 4096, dropped)
    reader = spool.reader("loki")
    done = threading.Event()
    read: list[bytes] = []

    def ship() -> None:
        while not done.is_set():
            read.extend(payload for _, payload in reader.read(1000, 0.01))

    thread = threading.Thread(target=ship)
    thread.start()
    for payload in numbered(5000):
        spool.append(payload)
    done.set()
    thread.join(60)
    assert read == sorted(set(read), key=lambda payload: int(payload.split()[0]))
    reader.rewind()  # nothing was acknowledged
    spool.sync()
    assert sorted(dropped + all_of(spool)) == sorted(numbered(5000))
    spool.close()


def test_appends_leak_no_file_descriptors(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    before = len(os.listdir("/proc/self/fd"))
    for payload in numbered(5000):  # 130 segments without a sync
        spool.append(payload)
    while read := reader.read(1000):
        reader.acknowledge(read[-1][0])
    assert len(os.listdir("/proc/self/fd")) < before + 20
    spool.sync()
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # the segment and the acknowledgement
    spool.close()
    assert len(os.listdir("/proc/self/fd")) < before


def test_only_the_owner_can_read_the_spool(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    spool.reader("loki").acknowledge(spool.append(b"secret"))
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "spool").iterdir())
    spool.close()


def test_a_spool_in_use_is_rejected_with_the_process_that_uses_it(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(SpoolError, match=rf"{tmp_path} is in use by another agent \(process {os.getpid()}\): stop"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


def test_a_killed_agent_leaves_no_lock(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, Path(__file__).with_name("spool_writer.py"), tmp_path, "append"])
    until(lambda: on_disk(tmp_path), what="a segment")
    with pytest.raises(SpoolError, match=rf"process {writer.pid}\)"):
        opened(tmp_path)
    writer.kill()
    writer.wait()
    opened(tmp_path).close()


def test_a_file_in_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("mine")
    for folder in (tmp_path / "logs", tmp_path / "logs" / "spool"):
        with pytest.raises(SpoolError, match=rf"cannot create the spool {folder}: a file has that name"):
            opened(folder)
    assert (tmp_path / "logs").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SpoolError, match=r"cannot write to the spool .* as user"):
        opened(tmp_path)
    with pytest.raises(SpoolError, match="cannot write to the spool"):
        opened(tmp_path / "logs")


def test_a_folder_that_cannot_be_created_is_reported() -> None:
    with pytest.raises(SpoolError, match=r"cannot write to the spool /proc/logs .*: set --state-dir or"):
        opened(Path("/proc/logs"))


def test_a_folder_or_a_fifo_in_place_of_a_segment_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "0000000000000001.log"
    path.mkdir()
    with pytest.raises(SpoolError, match=f"{path} is not a file"):
        opened(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(SpoolError, match=f"{path} is not a file"):
        opened(tmp_path)
