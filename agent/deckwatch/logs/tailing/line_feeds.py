"""Where lines end: after a line feed of one byte, or of two bytes in UTF-16, at an even offset."""

from __future__ import annotations

import codecs
from typing import Protocol

from deckwatch.config.log_parsing_settings import is_wide


class LineFeeds(Protocol):
    """The line feeds in data that begin at the beginning of a character. `size` is their size in bytes."""

    feed: bytes
    size: int
    carriage_return: bytes

    def last(self, data: bytes) -> int:
        """Where the last line feed is; -1 without one."""
        ...

    def first(self, data: bytes) -> int:
        """Where the first line feed is; -1 without one."""
        ...

    def split(self, data: bytes) -> list[bytes]:
        """The lines of data that do not end with a line feed."""
        ...


class _OneByte:
    feed = b"\n"
    size = 1
    carriage_return = b"\r"

    def last(self, data: bytes) -> int:
        return data.rfind(b"\n")

    def first(self, data: bytes) -> int:
        return data.find(b"\n")

    def split(self, data: bytes) -> list[bytes]:
        return data.split(b"\n")


class _LittleEndian:
    """UTF-16. At an odd offset, the bytes of a line feed belong to two other characters."""

    feed = b"\n\0"
    size = 2
    carriage_return = b"\r\0"

    def last(self, data: bytes) -> int:
        place = data.rfind(b"\n\0")
        while place > 0 and place % 2:
            place = data.rfind(b"\n\0", 0, place + 1)
        return place

    def first(self, data: bytes) -> int:
        place = data.find(b"\n\0")
        while place > 0 and place % 2:
            place = data.find(b"\n\0", place + 1)
        return place

    def split(self, data: bytes) -> list[bytes]:
        lines, start, place = [], 0, data.find(b"\n\0")
        while place >= 0:
            if place % 2:
                place = data.find(b"\n\0", place + 1)
                continue
            lines.append(data[start:place])
            start = place + 2
            place = data.find(b"\n\0", start)
        return [*lines, data[start:]]


def line_feeds(encoding: str) -> LineFeeds:
    """Those of files in this encoding."""
    return _LittleEndian() if is_wide(encoding) else _OneByte()


def encoding_of(head: bytes, encoding: str) -> str:
    """The encoding of a file that begins with `head`: a byte order mark of UTF-16 is never valid UTF-8."""
    return "utf-16" if encoding == "utf-8" and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else encoding


def in_little_endian(data: bytes, head: bytes, encoding: str) -> bytes:
    """The data of a file that begins with `head`: UTF-16 with the lower byte first, all else as it is.

    Without a byte order mark, `utf-16` is in little endian, as Windows writes it.
    """
    if encoding != "utf-16-be" and (encoding != "utf-16" or not head.startswith(b"\xfe\xff")):
        return data
    swapped = bytearray(data)
    even = len(data) // 2 * 2
    swapped[0:even:2], swapped[1:even:2] = data[1:even:2], data[0:even:2]
    return bytes(swapped)
