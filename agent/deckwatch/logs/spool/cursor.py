"""Positions in the spool."""

from __future__ import annotations

from typing import NamedTuple


class Cursor(NamedTuple):
    """A position between records. Cursors sort in the order in which records were written."""

    segment: int
    offset: int


START = Cursor(0, 0)
