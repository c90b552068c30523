"""Split PromQL text into tokens.

The grammar is that of Prometheus (https://prometheus.io/docs/prometheus/latest/querying/basics/).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.pack.promql import durations

if TYPE_CHECKING:
    from collections.abc import Iterator


class PromqlError(ValueError):
    """The text is not an expression of the supported part of PromQL. The message has the line and column."""

    def __init__(self, text: str, offset: int, problem: str) -> None:
        line = text.count("\n", 0, offset) + 1
        column = offset - (text.rfind("\n", 0, offset) + 1) + 1
        super().__init__(f"line {line}, column {column}: {problem}")


class Kind(Enum):
    """The kinds of tokens; the value is what messages call them."""

    WORD = "a name"
    NUMBER = "a number"
    DURATION = "a duration"
    STRING = "a string"
    SYMBOL = "an operator or bracket"
    END = "the end"


class Token(NamedTuple):
    """One token. `text` is as written, but the value of a string."""

    kind: Kind
    text: str
    offset: int

    @property
    def keyword(self) -> str:
        """The word in lower case: keywords are not case-sensitive. Empty for other tokens."""
        return self.text.lower() if self.kind is Kind.WORD else ""

    def is_symbol(self, *symbols: str) -> bool:
        return self.kind is Kind.SYMBOL and self.text in symbols


_SPACE = re.compile(r"(?:\s|#[^\n]*)+")
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_DURATION = re.compile(f"{durations.PATTERN}(?<=[a-z])")
_PART_OF_WORD = re.compile(r"[a-zA-Z0-9_]")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SYMBOL = re.compile(r"[=!]~|[=!<>]=|[-+*/%^<>=(){}\[\],@]")
_STRINGS = {
    '"': re.compile(r'"((?:[^"\\\n]|\\.)*)"'),
    "'": re.compile(r"'((?:[^'\\\n]|\\.)*)'"),
    "`": re.compile(r"`([^`]*)`"),
}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def tokenize(text: str) -> Iterator[Token]:
    """The tokens of `text`, the last of kind END. Raises PromqlError."""
    offset, is_range = 0, False
    while True:
        if space := _SPACE.match(text, offset):
            offset = space.end()
        if offset == len(text):
            yield Token(Kind.END, "", offset)
            return
        if is_range and text[offset] == ":":  # elsewhere a name can begin with it
            token, end = Token(Kind.SYMBOL, ":", offset), offset + 1
        else:
            token, end = _token(text, offset)
        if token.kind is Kind.SYMBOL and token.text in "[]":
            is_range = token.text == "["
        yield token
        offset = end


def _token(text: str, offset: int) -> tuple[Token, int]:
    if found := _WORD.match(text, offset):
        return Token(Kind.WORD, found[0], offset), found.end()
    for kind, pattern in ((Kind.DURATION, _DURATION), (Kind.NUMBER, _NUMBER)):
        found = pattern.match(text, offset)
        if found and not _PART_OF_WORD.match(text, found.end()):
            return Token(kind, found[0], offset), found.end()
    if text[offset].isdigit():
        raise PromqlError(text, offset, "expected a number or a duration such as 90s or 1h30m")
    if quoted := _STRINGS.get(text[offset]):
        if found := quoted.match(text, offset):
            raw = text[offset] == "`"
            return Token(Kind.STRING, found[1] if raw else _unescaped(text, found), offset), found.end()
        raise PromqlError(text, offset, "the string has no end")
    if found := _SYMBOL.match(text, offset):
        return Token(Kind.SYMBOL, found[0], offset), found.end()
    raise PromqlError(text, offset, f"unexpected character {text[offset]!r}")


def _unescaped(text: str, string: re.Match[str]) -> str:
    """The value of a string with Go's escapes. Bytes that are not UTF-8 become surrogates."""
    quote = string[0][0]
    value = bytearray()
    end = string.start(1)
    for escape in _ESCAPE.finditer(text, string.start(1), string.end(1)):
        value += text[end : escape.start()].encode("utf-8", "surrogateescape")
        byte, octal, short, long, character = escape.groups()
        code = int(short or long or "0", 16)
        if byte or octal:
            number = int(byte, 16) if byte else int(octal, 8)
            if number > 0xFF:
                raise PromqlError(text, escape.start(), f"invalid escape sequence {escape[0]}")
            value.append(number)
        elif character in _ESCAPED or character == quote:
            value += _ESCAPED.get(character, quote).encode()
        elif (short or long) and code < 0x110000 and not 0xD800 <= code < 0xE000:
            value += chr(code).encode()
        else:
            raise PromqlError(text, escape.start(), f"invalid escape sequence {escape[0]}")
        end = escape.end()
    value += text[end : string.end(1)].encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "surrogateescape")
