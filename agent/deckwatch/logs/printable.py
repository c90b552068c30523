"""Text from elsewhere, for a terminal: control characters would move its cursor, hide text or set its title."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t\u200c\u200d"  # the last two join or part letters
# Besides C0 and C1: line separators, and what turns the direction of text around.
_ESCAPED = {
    code: text.encode("unicode_escape").decode()
    for code in (*range(0xA0), *range(0x2000, 0x2070), 0xFEFF, 0x061C)
    if (text := chr(code)) not in _KEPT and unicodedata.category(text) in ("Cc", "Cf", "Zl", "Zp")
}


def printable(text: str) -> str:
    """The text with control characters as escapes (`\\x1b`); line feeds and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_ESCAPED).encode("utf-8", "backslashreplace").decode()


def printable_line(text: str) -> str:
    """As `printable`, in one line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
