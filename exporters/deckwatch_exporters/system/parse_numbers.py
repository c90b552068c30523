"""Numbers in the kernel's text files, parsed strictly and one by one.

A number that cannot be parsed is None and is added to the malformed values of the run; the others are returned.
Python's `int` and `float` also accept `1_000`, `+5`, `nan` and digits of other scripts, which the kernel never prints.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNSIGNED_END = 1 << 64  # the kernel's widest counters have 64 bits
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{1,16}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_MAX_TEXT = 200  # characters of a malformed value that are kept


class MalformedValues(list[Malformed]):
    """The values of one run that could not be parsed."""

    def add(self, what: str, text: str) -> None:
        self.append(Malformed(what, text[:_MAX_TEXT]))


def parse_unsigned_numbers(words: Sequence[str], what: str, malformed: MalformedValues) -> list[int | None]:
    """Parse each word as an unsigned number of up to 64 bits."""
    digits = "".join(words)
    if digits.isdecimal() and digits.isascii() and all(map(len, words)) and max(map(len, words)) < 20:
        return list(map(int, words))
    return [parse_unsigned(word, what, malformed) for word in words]


def parse_unsigned(word: str, what: str, malformed: MalformedValues) -> int | None:
    """Parse an unsigned number of up to 64 bits."""
    number = int(word) if _INTEGER.fullmatch(word) else -1
    if 0 <= number < _UNSIGNED_END and not word.startswith("-"):
        return number
    malformed.add(what, word)
    return None


def parse_signed(word: str, what: str, malformed: MalformedValues) -> int | None:
    """Parse a number of up to 64 bits that may be negative."""
    number = int(word) if _INTEGER.fullmatch(word) else _UNSIGNED_END
    if -_UNSIGNED_END // 2 <= number < _UNSIGNED_END:
        return number
    malformed.add(what, word)
    return None


def parse_hexadecimal(word: str, what: str, malformed: MalformedValues) -> int | None:
    """Parse an unsigned hexadecimal number of up to 64 bits, without `0x`."""
    if _HEXADECIMAL.fullmatch(word):
        return int(word, 16)
    malformed.add(what, word)
    return None


def parse_decimal(word: str, what: str, malformed: MalformedValues) -> float | None:
    """Parse a number that may be negative and may have a fraction; one without a fraction is an int."""
    if _DECIMAL.fullmatch(word):
        if "." in word:
            return float(word)
        return parse_signed(word, what, malformed)
    malformed.add(what, word)
    return None
