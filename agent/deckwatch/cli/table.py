"""Plain text tables for the command line."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from deckwatch.logs.printable import printable_line

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows below their header, each column as wide as its widest cell, the last one unpadded.

    Control characters are escaped: cells hold text of servers and files.
    """
    lines = [[printable_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(cell) for cell in column) for column in zip_longest(*lines, fillvalue="")]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip() + "\n"
        for line in lines
    )
