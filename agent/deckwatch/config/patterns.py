"""Regular expressions that users write or that meet text from elsewhere, run by RE2 in linear time.

Python's `re` can take minutes for one long line, and no other thread runs meanwhile. RE2 needs time in proportion to
the text, and releases the interpreter's lock. Its syntax (https://github.com/google/re2/wiki/Syntax) is the one that
Prometheus and Promtail use: no look-around and no backreferences; `\\w`, `\\d`, `\\s` and `\\b` know ASCII only.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

import re2
from pydantic_core import core_schema
from re2 import _re2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

#: Instructions of a compiled expression. RE2's slowest engine takes up to 2 ms for each with a text of 256 KiB.
_MAX_PROGRAM: Final = 5000
#: CPU seconds that replacing takes at most in one text: finding one match after the other can be quadratic.
_MAX_REPLACING: Final = 0.03
_MATCHES_BETWEEN_LOOKS: Final = 16

# The extension below the package's own functions, which take three times as long for a line.
_ANYWHERE: Final = _re2.RE2.Anchor.UNANCHORED
_WHOLE: Final = _re2.RE2.Anchor.ANCHOR_BOTH
_NOTHING: Final = (-1, -1)

_METACHARACTERS: Final = re.compile(r"[\\.^$|()\[\]{}*+?]")
_UNSUPPORTED: Final = (
    (re.compile(r"\(\?<?[=!]"), "look-around {} is not supported"),
    (re.compile(r"\(\?P="), "backreference {} is not supported"),
    (re.compile(r"\\[1-9]"), "backreference {} is not supported"),
    (re.compile(r"\(\?>"), "atomic group {} is not supported"),
    (re.compile(r"\(\?\("), "conditional {} is not supported"),
    (re.compile(r"\(\?#"), "comment {} is not supported"),
    (re.compile(r"[*+?}]\+"), "possessive quantifier {} is not supported"),
    (re.compile(r"\\Z"), r"{} is not supported, the end of the text is \z"),
    (re.compile(r"\\u[0-9a-fA-F]{4}"), r"{} is not supported, a character is \x{{10FFFF}}"),
)


class Pattern:
    """An expression in RE2's syntax, as settings hold it. Raises ValueError with what RE2 does not accept."""

    __slots__ = ("_match", "_names", "_set", "literal", "pattern", "size")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.literal = pattern if pattern and not _METACHARACTERS.search(pattern) else None
        try:
            regexp = _re2.RE2(pattern.encode(), _options())
        except UnicodeEncodeError:
            raise ValueError("a regular expression in Unicode") from None
        if not regexp.ok():
            raise ValueError(f"a regular expression that RE2 accepts ({_reason(pattern, regexp.error())})")
        self.size: int = regexp.ProgramSize()
        if self.size > _MAX_PROGRAM:
            raise ValueError("a shorter regular expression, or one with smaller repeats")
        self._match = regexp.Match
        self._set = _search_set((self,))
        self._names = [(name.decode(), group) for name, group in regexp.NamedCapturingGroups()]

    def __repr__(self) -> str:
        return f"Pattern({self.pattern!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.pattern == self.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    @property
    def names(self) -> list[str]:
        """The names of its groups."""
        return [name for name, _ in self._names]

    def search(self, text: str) -> bool:
        """Whether it matches anywhere in the text."""
        if self.literal is not None:
            return self.literal in text
        return self._set.Match(_encoded(text)) is not None

    def fullmatch(self, text: str) -> bool:
        """Whether it matches the whole text."""
        data = _encoded(text)
        return bool(self._match(_WHOLE, data, 0, len(data))[0] != _NOTHING)

    def groups(self, text: str) -> tuple[str, ...] | None:
        """The groups of the first match, `` for those that took no part; None without a match."""
        data = _encoded(text)
        spans = self._match(_ANYWHERE, data, 0, len(data))
        return None if spans[0] == _NOTHING else tuple(_decoded(data[start:end]) for start, end in spans[1:])

    def named_groups(self, text: str) -> dict[str, str] | None:
        """The named groups that took part in the first match; None without a match."""
        data = _encoded(text)
        spans = self._match(_ANYWHERE, data, 0, len(data))
        return None if spans[0] == _NOTHING else self._named(data, spans)

    def matches(self, text: str) -> Iterator[dict[str, str]]:
        """The named groups of each match, without those that took no part."""
        data = _encoded(text)
        position, size = 0, len(data)
        while position <= size:
            spans = self._match(_ANYWHERE, data, position, size)
            if spans[0] == _NOTHING:
                return
            yield self._named(data, spans)
            position = max(spans[0][1], spans[0][0] + 1)

    def _named(self, data: bytes, spans: list[tuple[int, int]]) -> dict[str, str]:
        found = {}
        for name, group in self._names:
            start, stop = spans[group]
            if start >= 0:
                found[name] = data[start:stop].decode("utf-8", "replace")
        return found

    def replaced(self, text: str, replacement: str, group: str = "") -> str:
        """The text with `replacement` for each match that is not empty, or for its named `group`.

        Where finding the matches takes too long, one replacement stands for all the rest: nothing that might have
        matched is left.
        """
        if self.literal is not None:
            return text.replace(self.literal, replacement)
        data = _encoded(text)
        match, size = self._match, len(data)
        spans = match(_ANYWHERE, data, 0, size)
        if spans[0] == _NOTHING:
            return text
        parts: list[bytes] = []
        instead, number_of_group = _encoded(replacement), dict(self._names).get(group, 0)
        done = number = 0
        limit = 0.0
        while spans[0] != _NOTHING:
            start, stop = spans[0]
            begin, end = spans[number_of_group]
            if begin < end:
                parts += (data[done:begin], instead)
                done = end
            if stop >= size:
                break
            number += 1
            if number % _MATCHES_BETWEEN_LOOKS == 0:
                limit = limit or time.thread_time() + _MAX_REPLACING
                if time.thread_time() > limit:
                    parts.append(instead)
                    done = size
                    break
            spans = match(_ANYWHERE, data, stop if start < stop else stop + 1, size)
        return _decoded(b"".join((*parts, data[done:])))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _as_pattern,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda pattern: pattern.pattern),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "regex"}


def _as_pattern(value: object) -> Pattern:
    if isinstance(value, Pattern):
        return value
    if not isinstance(value, str):
        raise ValueError("a regular expression")
    return Pattern(str(value))


class AnyOf:
    """Several expressions that are searched for in one pass."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        every = tuple(patterns)
        self.literals = tuple(one.literal for one in every if one.literal is not None)
        self._sets = [_search_set(some) for some in _within_limit([one for one in every if one.literal is None])]

    def search(self, text: str) -> bool:
        """Whether one of them matches anywhere in the text."""
        for literal in self.literals:
            if literal in text:
                return True
        if not self._sets:
            return False
        data = _encoded(text)
        return any(one.Match(data) is not None for one in self._sets)


def _within_limit(patterns: list[Pattern]) -> Iterator[tuple[Pattern, ...]]:
    """Together they are to be no larger than one may be: a set that lacks memory finds nothing."""
    some: list[Pattern] = []
    size = 0
    for pattern in patterns:
        if some and size + pattern.size > _MAX_PROGRAM:
            yield tuple(some)
            some, size = [], 0
        some.append(pattern)
        size += pattern.size
    if some:
        yield tuple(some)


def _search_set(patterns: tuple[Pattern, ...]) -> Any:
    """RE2's set: it tells whether something matches, at half the cost of telling where."""
    made = re2.Set.SearchSet(_options())
    for pattern in patterns:
        made.Add(pattern.pattern.encode())
    made.Compile()
    return made


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False  # RE2 would write to stderr
    return options


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # halves of surrogate pairs come from file names


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _reason(pattern: str, error: str | bytes) -> str:
    for construct, reason in _UNSUPPORTED:
        if match := construct.search(pattern):
            return reason.format(match[0])
    return _decoded(error) if isinstance(error, bytes) else error
