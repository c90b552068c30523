"""Glob patterns as SCAN, PSUBSCRIBE and the rules of an ACL take them."""

from __future__ import annotations


def escape_pattern(text: str) -> str:
    """Text as a pattern that matches only itself."""
    return "".join(f"\\{character}" if character in "\\*?[]^" else character for character in text)
