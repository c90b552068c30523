"""The format of segments, the files of the spool.

A segment is a file `<16 digits>.log`. It begins with HEADER: `DWSPOOL`, the version, and a crc32 of both, which
distinguishes another version from a flipped bit. Records follow, little endian: `[magic, 2 bytes][length u32]
[crc32 u32][payload]`, where the crc covers length and payload. Functions take a file descriptor and use pread, so
several threads can read at the same time.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from typing import TYPE_CHECKING

from isal.isal_zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = b"DWSPOOL"
_VERSION = _NAME + b"1"
_HEADER_CRC = struct.pack("<I", crc32(_VERSION))
HEADER = _VERSION + _HEADER_CRC

_RECORD_MAGIC = b"\xfe\xd1"  # never occurs in UTF-8 text
_LENGTH = struct.Struct("<I")
_HEAD = struct.Struct("<2sII")
HEAD_BYTES = _HEAD.size

_FILE_NAME = re.compile(r"([0-9]{16})\.log")
_CHUNK = 64 * 1024


def file_name(number: int) -> str:
    return f"{number:016d}.log"


def number_of(name: str) -> int | None:
    """Return the segment number in a file name; None if it is not the name of a segment."""
    match = _FILE_NAME.fullmatch(name)
    return int(match[1]) if match else None


def other_version(fd: int) -> bytes | None:
    """Return the version bytes of a segment written by another version; None if written by this one, even damaged."""
    begins = _pread(fd, len(HEADER), 0)
    version, crc = begins[: len(_VERSION)], begins[len(_VERSION) :]
    if len(version) < len(_VERSION) or not version.startswith(_NAME):
        return None
    return None if version == _VERSION or crc == _HEADER_CRC else version


def head_of(payload: bytes) -> bytes:
    """Return the head of a record: everything before the payload."""
    length = len(payload)
    return _HEAD.pack(_RECORD_MAGIC, length, crc32(payload, crc32(_LENGTH.pack(length))))


def write(fd: int, parts: Sequence[bytes], offset: int) -> int:
    """Write the parts at `offset` and return the offset after them. On OSError, some may have been written."""
    offset += (written := os.pwritev(fd, parts, offset))
    for part in parts:
        if written >= len(part):
            written -= len(part)
            continue
        # A short write, for example on a full disk. The next write reports the reason.
        rest = memoryview(part)[written:]
        written = 0
        while rest:
            taken = os.pwrite(fd, rest, offset)
            offset += taken
            rest = rest[taken:]
    return offset


def length_at(fd: int, offset: int, end: int) -> int | None:
    """Return the payload size of the record that seems to begin here; None unless it would end by `end`."""
    head = _head_at(fd, offset, end)
    return head[0] if head else None


def payload_at(fd: int, offset: int, end: int) -> bytes | None:
    """Return the payload of the record that begins here; None if there is no intact record."""
    head = _head_at(fd, offset, end)
    if head is None:
        return None
    length, crc = head
    payload = _pread(fd, length, offset + HEAD_BYTES)
    if len(payload) < length or crc32(payload, crc32(_LENGTH.pack(length))) != crc:
        return None
    return payload


def next_record(fd: int, offset: int, end: int) -> int:
    """Return where the first intact record at or after `offset` begins, or `end` if there is none."""
    while offset + HEAD_BYTES <= end:
        chunk = _pread(fd, min(_CHUNK, end - offset), offset)
        at = chunk.find(_RECORD_MAGIC)
        while at >= 0:
            if payload_at(fd, offset + at, end) is not None:
                return offset + at
            at = chunk.find(_RECORD_MAGIC, at + 1)
        offset += _CHUNK - 1  # the magic may span two chunks
    return end


def records_lost(fd: int, start: int, stop: int, end: int) -> int:
    """Return the number of records lost between `start` and `stop`, a range without intact records: 1 if unknown.

    A range at the end of the file counts as 0 if it is the beginning of an interrupted write, or the zeros that a
    power failure leaves.
    """
    if stop == end and (_torn(fd, start, end) or _zeros(fd, start, end)):
        return 0
    # Trust the lengths for counting only if they lead exactly to the end of the range.
    lost = 0
    while start < stop and (length := length_at(fd, start, stop)) is not None:
        start += HEAD_BYTES + length
        lost += 1
    return lost if start == stop else 1


def whole_until(fd: int, size: int) -> tuple[int, int]:
    """Return where the last intact record of a file of `size` bytes ends (0 if none), and the records lost after it."""
    offset, whole = len(HEADER), 0
    while offset < size:
        payload = payload_at(fd, offset, size)
        if payload is None:
            offset = next_record(fd, offset + 1, size)
        else:
            offset = whole = offset + HEAD_BYTES + len(payload)
    begins = whole or len(HEADER)
    return whole, records_lost(fd, begins, size, size) if begins < size else 0


def _head_at(fd: int, offset: int, end: int) -> tuple[int, int] | None:
    """Return the length and crc of the record head at `offset`, if it is plausible."""
    if offset + HEAD_BYTES > end:
        return None
    head = _pread(fd, HEAD_BYTES, offset)
    if len(head) < HEAD_BYTES:
        return None
    magic, length, crc = _HEAD.unpack(head)
    if magic != _RECORD_MAGIC or offset + HEAD_BYTES + length > end:
        return None
    return length, crc


def _torn(fd: int, start: int, end: int) -> bool:
    """Return whether the rest of the file is the beginning of an incomplete record."""
    head = _pread(fd, HEAD_BYTES, start)
    if not head.startswith(_RECORD_MAGIC[: len(head)]):
        return False
    if end - start < HEAD_BYTES:
        return True
    _, length, crc = _HEAD.unpack(head)
    present = end - start - HEAD_BYTES
    if length <= present:
        return False
    # A complete record with a damaged length looks the same, except for its crc.
    return bool(crc32(_pread(fd, present, start + HEAD_BYTES), crc32(_LENGTH.pack(present))) != crc)


def _zeros(fd: int, start: int, end: int) -> bool:
    while start < end:
        chunk = _pread(fd, min(_CHUNK, end - start), start)
        if not chunk or chunk.count(0) < len(chunk):
            return False
        start += len(chunk)
    return True


def _pread(fd: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""  # treat an unreadable sector as damage
