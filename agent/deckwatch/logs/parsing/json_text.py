"""Rewrites values in JSON text without touching anything else in it: blanks, numbers and the order stay."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from deckwatch.logs.parsing.credentials import CpuBudget

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
# A name with its colon, or a value: a string that is not empty, or a number.
_NAME_OR_VALUE: Final = re.compile(r'("(?:[^"\\]|\\.)*"\s*:)|"(?:[^"\\]|\\.)+"|-?[0-9][^\s,\]}]*', re.DOTALL)
_WORDS: Final = frozenset(("null", "true", "false"))
# The names that lists of headers and HAR files have for a name and its value.
_NAME_KEYS: Final = frozenset(("name", "key", "header"))


class _Place:
    """Where a token is: an object or array, and what came in it so far."""

    __slots__ = ("is_key", "is_object", "is_secret", "item", "key", "names_secret")

    def __init__(self, *, is_object: bool, is_secret: bool) -> None:
        self.is_object = self.is_key = is_object
        self.is_secret = is_secret  # below the name of a secret
        self.item = 0  # number of the item of an array
        self.key = ""
        # The name of a secret came before: in `["password", ...]` or `{"name": "password", ...}`.
        self.names_secret = False


def is_json(text: str) -> bool:
    """Whether the text is a JSON object or array."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def rewritten(
    text: str,
    rewrite: Callable[[str], str],
    is_secret_name: Callable[[str], bool],
    replacement: str,
    budget: CpuBudget,
) -> str:
    """Return JSON with each name, string and number replaced by what `rewrite` makes of it; it stays JSON.

    What has a secret name becomes `replacement`: also all strings and numbers inside objects and arrays. A number
    that changes becomes a string. `null`, `true` and `false` stay. When the budget is spent, all values that follow
    become `replacement`.
    """
    parts: list[str] = []
    done = 0
    place = _Place(is_object=False, is_secret=False)
    outer: list[_Place] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("{", "["):
            outer.append(place)
            hidden = place.is_secret or _hides(place, is_secret_name)
            place = _Place(is_object=token == "{", is_secret=hidden)
        elif token in ("}", "]"):
            place = outer.pop()
        elif token == ",":
            place.item += 1
            place.is_key, place.key = place.is_object, ""
        elif token == ":":
            place.is_key = False
        elif token not in _WORDS:
            value = json.loads(token) if token[0] == '"' else token
            if place.is_key:
                place.key = value
                new = rewrite(value)
            elif value and (place.is_secret or _hides(place, is_secret_name)):
                new = replacement
            else:
                new = rewrite(value)
                if (place.key.lower() in _NAME_KEYS if place.is_object else not place.item) and is_secret_name(value):
                    place.names_secret = True
            if new != value:
                parts += [text[done : match.start()], json.dumps(new, ensure_ascii=token.isascii())]
                done = match.end()
            if budget.is_spent():
                return "".join((*parts, text[done : match.end()], _hidden(text[match.end() :], replacement)))
    return "".join((*parts, text[done:])) if parts else text


def _hidden(rest: str, replacement: str) -> str:
    """The rest of a JSON text with all values replaced."""
    value = json.dumps(replacement)
    return _NAME_OR_VALUE.sub(lambda found: found[1] or value, rest)


def _hides(place: _Place, is_secret_name: Callable[[str], bool]) -> bool:
    """Whether the value at this place is that of a secret name."""
    if place.is_object:
        return is_secret_name(place.key) or (place.names_secret and place.key.lower() == "value")
    return place.names_secret and place.item == 1
