"""Lines of UTF-16: the same lines, offsets and cuts, however the file is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deckwatch.logs.tailing.line_feeds import in_little_endian
from deckwatch.logs.tailing.line_splitter import LineSplitter

# Characters with the bytes of a line feed and of a carriage return in them, at even and at odd offsets.
TEXTS = st.lists(st.text(st.sampled_from("aĀਊ\u0a00\u000d\u0d0a\U0001f40a"), max_size=12), max_size=8)
LIMIT = 12


@given(TEXTS, st.lists(st.integers(1, 40), min_size=1, max_size=30), st.booleans())
def test_every_line_is_found_whole_or_cut_with_its_offset(texts: list[str], reads: list[int], is_big: bool) -> None:
    content = "".join(f"{text}\n" for text in texts).encode("utf-16-be" if is_big else "utf-16-le")
    splitter = LineSplitter(0, LIMIT, "utf-16-be" if is_big else "utf-16-le")
    found: list[bytes] = []
    visible = 0
    while splitter.offset < len(content) or visible < len(content):
        visible = min(len(content), visible + reads[len(found) % len(reads)])  # the writer goes on, byte by byte
        size = splitter.read_size(1)
        data = content[splitter.offset : min(visible, splitter.offset + size)]
        text = in_little_endian(data, b"", "utf-16-be" if is_big else "utf-16-le")
        chunk = splitter.split(text, len(data) == size, is_last=False)
        end = chunk.start
        for index, line in enumerate(chunk.lines):
            end += len(line) + chunk.cut.get(index, 0) + 2
            found.append(line)
        assert end == chunk.end or not chunk.lines

    wanted = [text.encode("utf-16-le") for text in texts]
    assert [line[:LIMIT] for line in found] == [line[:LIMIT] for line in wanted]
    assert all(len(line) <= LIMIT or line.endswith(b"\r\0") for line in found)
