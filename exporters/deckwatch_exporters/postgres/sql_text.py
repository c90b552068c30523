"""Texts of statements: on one line, without literals, as a fingerprint; and quoted names.

pg_stat_statements replaces the constants of queries, but not those of utility statements (`ALTER ROLE x PASSWORD
'secret'`, before PostgreSQL 16), and pg_stat_activity replaces none. Lexical rules:
https://www.postgresql.org/docs/current/sql-syntax-lexical.html
"""

from __future__ import annotations

import hashlib
import re

# Possessive quantifiers keep the time linear in the length, and a literal that was cut never matches partially.
_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n\r]*)
    | (?P<comment>/\*)
    | (?P<quoted>"(?:[^"]|"")*+(?:"|\Z))
    # A string after a line break continues the one before, escapes included.
    | (?P<escaped>[eE]'(?:[^'\\]|\\(?:.|\Z)|''|'(?:[ \t\f\v]|--[^\n\r]*)*+[\n\r](?:\s|--[^\n\r]*)*+')*+(?:'|\Z))
    | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*+(?:'|\Z))
    | (?P<parameter>\$\d+)
    | (?P<dollar>\$(?P<tag>[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*+)?\$)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*+)
    | (?P<number>(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?))
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_LIST = re.compile(r"\(\s*(?:\?|\$\d+)(?:\s*,\s*(?:\?|\$\d+))+\s*\)")
_ROWS = re.compile(r"\(\?\)(?:\s*,\s*\(\?\))+")
_PARAMETER = re.compile(r"\$\d+")


def redacted(sql: str) -> str:
    """The statement on one line without comments, with `?` in place of every literal.

    A text that was cut inside a literal ends in `?`.
    """
    return _rewritten(sql, keep_literals=False)


def one_line(sql: str) -> str:
    """The statement on one line without comments. Literals stay."""
    return _rewritten(sql, keep_literals=True)


def fingerprint(sql: str) -> str:
    """16 hexadecimal digits that do not depend on literals, parameters, case and lengths of lists."""
    shape = _LIST.sub("(?)", _PARAMETER.sub("?", redacted(sql)))
    shape = _ROWS.sub("(?)", shape).lower()
    return hashlib.blake2b(shape.encode("utf-8", "replace"), digest_size=8).hexdigest()


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def cut(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8."""
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= size else encoded[:size].decode("utf-8", "ignore")


def _rewritten(sql: str, keep_literals: bool) -> str:
    parts: list[str] = []
    position = 0
    while match := _TOKEN.match(sql, position):
        kind, token, position = match.lastgroup, match[0], match.end()
        if match["comment"]:
            position = _end_of_comment(sql, position)
            kind = "space"
        elif match["dollar"]:
            end = sql.find(token, position)
            end = len(sql) if end < 0 else end + len(token)
            token, position, kind = sql[match.start() : end], end, "string"
        if kind == "space":
            if parts and parts[-1] != " ":
                parts.append(" ")
        elif kind in ("string", "escaped", "number") and not keep_literals:
            parts.append("?")
        else:
            parts.append(token)
    return "".join(parts).strip()


def _end_of_comment(sql: str, position: int) -> int:
    """Comments nest."""
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(sql, position):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    return len(sql)
