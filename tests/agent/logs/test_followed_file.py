"""Lines and offsets of one file for any sequence of read sizes."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deckwatch.logs.entry import Identity
from deckwatch.logs.tailing.fingerprint import identity_of, starts_as
from deckwatch.logs.tailing.followed_file import FollowedFile, Stage

LINES = st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"\r").replace(b"\0", b"0")), max_size=30)


def opened(path: Path, max_line: int = 1000) -> FollowedFile:
    file = FollowedFile.found(str(path), "key", str(path), path.stat(), 0.0, max_line)
    file.open()
    return file


def read_all(file: FollowedFile, max_bytes: int) -> tuple[list[bytes], dict[int, int]]:
    """Return the lines and how much of each was cut. Checks that offsets have no gaps."""
    lines: list[bytes] = []
    cut: dict[int, int] = {}
    end = file.nothing_to_read().start
    while True:
        chunk = file.read(max_bytes)
        assert chunk is not None
        assert chunk.start == end
        sizes = sum(len(line) + chunk.cut.get(index, 0) + 1 for index, line in enumerate(chunk.lines))
        assert chunk.end == end + sizes or (file.stage is Stage.ENDED and chunk.end == end + sizes - 1)
        end = chunk.end
        cut.update({len(lines) + index: missing for index, missing in chunk.cut.items()})
        lines += chunk.lines
        if not chunk.more:
            return lines, cut


@settings(max_examples=200)
@given(
    LINES,
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"").replace(b"\0", b"0")),
    st.integers(1, 20),
    st.integers(1, 50),
)
def test_lines_do_not_depend_on_read_sizes(written: list[bytes], rest: bytes, max_line: int, max_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        # Avoid the first bytes of a compressed file.
        written = [b"", *written]
        path.write_bytes(b"".join(line + b"\n" for line in written) + rest)
        file = opened(path, max_line)
        lines, cut = read_all(file, max_bytes)
        assert [line[:max_line] for line in lines] == [line[:max_line] for line in written]
        assert [len(line) + cut.get(index, 0) for index, line in enumerate(lines)] == [len(line) for line in written]
        assert all(len(line) <= max_line + line.endswith(b"\r") for line in lines)
        file.leave(0.0)
        assert file.end() == bool(rest)
        last, cut = read_all(file, max_bytes)
        assert [len(line) + cut.get(index, 0) for index, line in enumerate(last)] == ([len(rest)] if rest else [])
        file.close()


def test_a_long_line_without_newline_does_not_grow_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * 10_000_000)
    file = opened(path, max_line=65536)
    tracemalloc.start()
    assert read_all(file, 65536)[0] == [b"first"]
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert file.nothing_to_read().start == 6
    with path.open("ab") as log:
        log.write(b"\nlast\n")
    lines, cut = read_all(file, 65536)
    assert lines == [b"x" * 65536, b"last"]
    assert cut == {0: 10_000_000 - 65536}
    file.close()


def test_carriage_returns_are_kept_in_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\r\nb\n\r\n")
    file = opened(path)
    assert read_all(file, 100)[0] == [b"a\r", b"b", b"\r"]
    file.close()


def test_a_fingerprint_grows_with_the_file_and_still_matches_it() -> None:
    short = identity_of(1, 2, b"abc")
    assert starts_as(b"abcdef", short)
    assert not starts_as(b"abX", short)
    assert not starts_as(b"ab", short)
    assert starts_as(b"", Identity(1, 2, 0, ""))


def test_a_file_goes_through_its_stages_in_one_order_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\nrest")
    file = opened(path)
    assert file.stage is Stage.LIVE
    for wrong in (file.end, file.finish, file.reopen):
        with pytest.raises(AssertionError):
            wrong()
    file.leave(1.0)
    assert read_all(file, 100)[0] == [b"a"]
    assert file.end()
    assert read_all(file, 100)[0] == [b"rest"]
    file.finish()
    with pytest.raises(AssertionError):
        file.leave(2.0)
    file.reopen()
    assert (file.stage, file.is_ready) == (Stage.LEFT, True)
    file.vanish()
    with pytest.raises(AssertionError):
        file.reopen()  # it no longer exists
    assert (file.is_finished, file.is_ready, file.is_open, file.is_deleted) == (True, False, False, True)


def test_a_commit_never_moves_backwards_or_beyond_the_read_offset(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    file = opened(path)
    read_all(file, 100)
    for offset, committed in ((4, 4), (0, 4), (100, 8)):
        file.commit(offset)
        assert file.committed == committed
    assert file.is_committed
    file.close()


@pytest.mark.parametrize(
    ("encoding", "content", "begun"),
    [
        ("utf-8", "old\n", "half a li"),
        ("utf-8", "old\n", ""),
        ("utf-8", "", "half a li"),
        ("utf-8", "x" * 100_000 + "\n", "y" * 200_000),
        ("utf-16", "old ਊ\n", "ha"),
    ],
    ids=["half a line", "whole lines", "only half a line", "long lines", "utf-16"],
)
def test_a_file_that_starts_at_its_end_skips_whole_lines_only(
    tmp_path: Path, encoding: str, content: str, begun: str
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes((content + begun).encode(encoding))
    file = FollowedFile.found(str(path), "key", str(path), path.stat(), 0.0, 1_000_000, encoding)
    file.open()
    file.start_at_end()
    assert not file.is_ready
    with path.open("ab") as added:
        added.write("ne\nnext\n".encode("utf-16-le" if encoding == "utf-16" else encoding))
    file.observe(path.stat(), 1.0)
    assert file.is_ready
    chunk = file.read(1_000_000)

    assert chunk is not None
    lines = [line.decode("utf-16-le" if encoding == "utf-16" else encoding) for line in chunk.lines]
    assert [line.removeprefix("\ufeff") for line in lines] == [f"{begun}ne", "next"]
    assert chunk.end == path.stat().st_size
    file.close()
