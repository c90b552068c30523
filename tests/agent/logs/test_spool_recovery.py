"""The spool after a crash, a power failure, disk errors and manual changes to its folder."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.logs.spool.ack_file import AckFile
from deckwatch.logs.spool.segment import HEAD_BYTES, HEADER, head_of
from deckwatch.logs.spool.spool import Cursor, Spool, SpoolError

PAYLOADS = [b"first", b"", b"third " * 5, b"\xfe\xd1" * 10, b"fifth"]


def opened(folder: Path, segment_bytes: int = 1024**2) -> Spool:
    return Spool(folder, 8 * 1024**2, "block", segment_bytes, lambda *_: None)


def written(folder: Path, *sessions: list[bytes], segment_bytes: int = 1024**2) -> list[Path]:
    """Append the payloads over several starts. Return the segments."""
    for payloads in sessions:
        spool = opened(folder, segment_bytes)
        for payload in payloads:
            spool.append(payload)
        spool.close()
    return sorted(folder.glob("*.log"))


def left(folder: Path) -> tuple[list[bytes], int]:
    """Return the readable payloads and the number of damaged records."""
    spool = opened(folder)
    payloads = [payload for _, payload in spool.records()]
    damaged = spool.damaged
    assert [payload for _, payload in spool.reader("any").read(10**9)] == payloads
    assert spool.damaged == damaged, "counted twice"
    spool.close()
    return payloads, damaged


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def test_a_file_truncated_at_any_byte_keeps_its_complete_records(tmp_path: Path) -> None:
    (path,) = written(tmp_path, PAYLOADS)
    data = path.read_bytes()
    ends = [len(HEADER)]
    for payload in PAYLOADS:
        ends.append(ends[-1] + HEAD_BYTES + len(payload))
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        whole = sum(end <= size for end in ends[1:])
        assert left(tmp_path) == (PAYLOADS[:whole], 0), size
        assert (path.stat().st_size if path.exists() else 0) == (ends[whole] if whole else 0)


def test_a_flipped_bit_loses_and_counts_at_most_one_record(tmp_path: Path) -> None:
    newest_too = tmp_path / "newest"
    for folder, sessions in ((tmp_path, [PAYLOADS, [b"later"]]), (newest_too, [PAYLOADS])):
        path = written(folder, *sessions)[0]
        data = path.read_bytes()
        later = sessions[1] if len(sessions) > 1 else []
        at = len(HEADER)
        for index, payload in [(-1, b""), *enumerate(PAYLOADS)]:
            begin, end = (0, at) if index < 0 else (at, at + HEAD_BYTES + len(payload))
            at = end
            kept = PAYLOADS if index < 0 else PAYLOADS[:index] + PAYLOADS[index + 1 :]
            for bit in range(begin * 8, end * 8):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                path.write_bytes(flipped)
                assert left(folder) == ([*kept, *later], 0 if index < 0 else 1), bit


def test_adjacent_damaged_records_are_counted_separately(tmp_path: Path) -> None:
    path = written(tmp_path, [b"x" * 100] * 10, [b"later"])[0]
    data = bytearray(path.read_bytes())
    for index in (3, 4, 5, 8):
        data[len(HEADER) + index * (HEAD_BYTES + 100) + 50] ^= 1
    path.write_bytes(data)
    assert left(tmp_path) == ([b"x" * 100] * 6 + [b"later"], 4)


def test_a_damaged_length_does_not_skip_intact_records(tmp_path: Path) -> None:
    path = written(tmp_path, [b"%06d" % number for number in range(10)], [b"later"])[0]
    data = bytearray(path.read_bytes())
    data[len(HEADER) + 2] ^= 16  # a length that ends where another record begins
    path.write_bytes(data)
    assert left(tmp_path) == ([*(b"%06d" % number for number in range(1, 10)), b"later"], 1)


@pytest.mark.parametrize("zeros", [1, 9, 10, 4096, 200_000])
def test_zeros_after_a_power_failure_are_truncated_and_not_counted_as_loss(tmp_path: Path, zeros: int) -> None:
    (path,) = written(tmp_path, PAYLOADS)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(zeros))
    assert left(tmp_path) == (PAYLOADS, 0)
    assert path.stat().st_size == size


def test_zeros_at_the_end_of_an_older_segment_are_not_counted_as_loss(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS, [b"later"])[0]
    with path.open("ab") as file:
        file.write(bytes(100_000))
    assert left(tmp_path) == ([*PAYLOADS, b"later"], 0)


@given(
    payloads=st.lists(st.binary(max_size=200), min_size=1, max_size=30),
    overwrites=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=300)), max_size=4),
)
def test_overwriting_records_does_not_affect_the_others(
    payloads: list[bytes], overwrites: list[tuple[float, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (path,) = written(folder, payloads)
        data = path.read_bytes()
        damaged = bytearray(data)
        for share, garbage in overwrites:
            begin = len(HEADER) + int(share * (len(data) - len(HEADER)))
            damaged[begin : begin + len(garbage)] = garbage
        path.write_bytes(damaged)
        at = len(HEADER)
        intact = []
        for payload in payloads:
            end = at + HEAD_BYTES + len(payload)
            if damaged[at:end] == data[at:end]:
                intact.append(payload)
            at = end
        assert left(folder)[0] == intact


def test_garbage_between_records_is_skipped(tmp_path: Path) -> None:
    first, second = written(tmp_path, PAYLOADS, [b"later"])
    garbage = random.Random(5).randbytes(300_000)
    first.write_bytes(first.read_bytes() + garbage + head_of(b"after") + b"after")
    second.write_bytes(second.read_bytes() + garbage)
    assert left(tmp_path) == ([*PAYLOADS, b"after", b"later"], 2)


def test_a_segment_of_zeros_or_garbage_affects_no_other_segment(tmp_path: Path) -> None:
    paths = written(tmp_path, [b"one"], [b"two"], [b"three"], [b"four"])
    paths[1].write_bytes(bytes(1000))
    paths[3].write_bytes(random.Random(5).randbytes(1000))
    assert left(tmp_path) == ([b"one", b"three"], 1)


@pytest.mark.parametrize("size", [0, 1, 7, 8, len(HEADER)])
def test_segments_without_records_are_deleted(tmp_path: Path, size: int) -> None:
    paths = written(tmp_path, [b"one"], [b"two"], [b"three"])
    for path in paths[1:]:
        path.write_bytes(HEADER[:size])
    assert left(tmp_path) == ([b"one"], 0)
    assert sorted(tmp_path.glob("*.log")) == paths[:1]


def test_missing_segments_are_skipped(tmp_path: Path) -> None:
    paths = written(tmp_path, [b"one"], [b"two"], [b"three"], [b"four"])
    paths[1].unlink()
    paths[2].unlink()
    assert left(tmp_path) == ([b"one", b"four"], 0)


def test_segments_deleted_at_run_time_are_skipped_and_counted(tmp_path: Path) -> None:
    paths = written(tmp_path, [b"one"], [b"two"], [b"three"])
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    paths[1].unlink()
    assert [payload for _, payload in reader.read(100)] == [b"one", b"three"]
    spool.append(b"four")
    for path in tmp_path.glob("*.log"):
        path.unlink()
    assert reader.read(100) == []
    assert spool.damaged == 2
    spool.append(b"five")
    assert [payload for _, payload in reader.read(100)] == [b"five"]
    assert [payload for _, payload in spool.records()] == [b"five"]
    assert spool.disk_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.log"))
    spool.close()


def test_damage_read_by_all_readers_and_then_dropped_is_counted_once(tmp_path: Path) -> None:
    path = written(tmp_path, [b"x" * 100] * 10, [b"later"])[0]
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    dropped: list[bytes] = []
    spool = Spool(tmp_path, 1500, "drop_oldest", 1500, lambda payload, _: dropped.append(payload))
    readers = [spool.reader(name) for name in ("one", "two")]
    assert [len(reader.read(10**6)) for reader in readers] == [10, 10]
    assert (spool.damaged, dropped) == (1, [])
    spool.append(b"y" * 1000)
    for reader in readers:
        reader.rewind()
    spool.sync()
    assert (spool.damaged, dropped) == (1, [b"x" * 100] * 9)
    spool.close()


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"DWACK1 1 12 00000000\n", b"DWACK2 future\n", b"\xff\xfe"])
def test_a_damaged_acknowledgement_restarts_from_the_oldest_record(tmp_path: Path, damage: bytes) -> None:
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    reader.acknowledge([spool.append(payload) for payload in PAYLOADS][2])
    spool.close()
    (tmp_path / "loki.ack").write_bytes(damage)
    spool = opened(tmp_path)
    assert [payload for _, payload in spool.reader("loki").read(10**6)] == PAYLOADS
    spool.close()


def test_an_acknowledgement_beyond_the_end_restarts_from_the_oldest_record_and_never_covers_new_ones(
    tmp_path: Path,
) -> None:
    spool = opened(tmp_path)
    spool.reader("loki").acknowledge([spool.append(payload) for payload in PAYLOADS][-1])
    spool.close()
    (path,) = tmp_path.glob("*.log")
    os.truncate(path, len(HEADER) + HEAD_BYTES + len(PAYLOADS[0]))  # a power failure before the sync
    spool = opened(tmp_path)
    spool.reader("loki")
    for payload in PAYLOADS:
        spool.append(payload)
    spool.close()  # killed before any acknowledgement
    spool = opened(tmp_path)
    assert [payload for _, payload in spool.reader("loki").read(10**6)] == [PAYLOADS[0], *PAYLOADS]
    spool.close()


def test_an_acknowledgement_that_outlives_all_segments_does_not_cover_new_ones(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.reader("loki").acknowledge([spool.append(payload) for payload in PAYLOADS][-1])
    spool.close()
    for path in tmp_path.glob("*.log"):
        path.unlink()
    for _ in range(2):
        spool = opened(tmp_path)
        reader = spool.reader("loki")
        spool.append(b"new")
        assert reader.read(100)[0][1] == b"new"
        spool.close()


def test_an_acknowledgement_in_a_deleted_segment_continues_with_the_next(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=50)
    places = [spool.append(b"x" * 10 + b"%d" % number) for number in range(20)]
    spool.reader("loki").acknowledge(places[9])
    spool.close()
    for path in sorted(tmp_path.glob("*.log"))[:8]:
        path.unlink()
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    assert reader.acknowledged == places[9]
    assert [payload for _, payload in reader.read(10**6)][-1] == b"x" * 10 + b"19"
    spool.close()


def test_records_after_a_checkpoint_are_read_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    place = [spool.append(payload) for payload in PAYLOADS][2]
    spool.close()
    spool = opened(tmp_path)
    spool.append(b"later")
    assert [payload for _, payload in spool.records(place)] == [*PAYLOADS[3:], b"later"]
    assert list(spool.records(Cursor(place.segment - 1, 99))) == list(spool.records())
    spool.close()


@pytest.mark.parametrize("begins", [b"DWSPOOL2", b"DWSPOOL2" + bytes(100), b"DWSPOOLX\xfe\xd1"])
def test_a_spool_of_another_version_is_rejected_and_not_changed(tmp_path: Path, begins: bytes) -> None:
    first, second = written(tmp_path, PAYLOADS, [b"later"])
    second.write_bytes(second.read_bytes() + b"torn")
    first.write_bytes(begins)
    (tmp_path / "loki.ack").write_bytes(b"DWACK2 future\n")
    before = contents(tmp_path)
    for _ in range(2):
        with pytest.raises(SpoolError, match=rf"another version of Deckwatch \({first} begins with .*move the folder"):
            opened(tmp_path)
    assert contents(tmp_path) == before


def test_other_files_in_the_folder_are_not_changed(tmp_path: Path) -> None:
    names = ["README", "1.log", "00000000000000001.log", "0000000000000001.log.gz", "positions.json"]
    for name in names:
        (tmp_path / name).write_text("mine")
    assert left(tmp_path) == ([], 0)
    assert {(tmp_path / name).read_text() for name in names} == {"mine"}


def test_acknowledgements_survive_the_end_of_the_process_without_a_sync_or_a_close(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    reader = spool.reader("loki")
    *cursors, last = [spool.append(payload) for payload in PAYLOADS]
    for cursor in cursors:
        reader.acknowledge(cursor)
        assert AckFile(tmp_path / "loki.ack").read() == cursor
    spool.close()
    reader.acknowledge(last)  # the push ended after the spool was closed
    assert AckFile(tmp_path / "loki.ack").read() == last
