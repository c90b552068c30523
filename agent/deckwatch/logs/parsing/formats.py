"""The formats of log lines: a line's fields, and what a container's runtime wraps around a line.

Sources: the logfmt of Heroku and go-kit; Kubernetes' CRI logging format (`<time> <stream> <P|F> <content>`); Docker's
json-file driver (`{"log", "stream", "time"}`).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from deckwatch.config.patterns import Pattern

Fields = dict[str, Any]

_LOGFMT: Final = re.compile(r'([^\s="]+)(?:(=)(?:"((?:[^"\\]|\\.)*)"|(\S*)))?', re.DOTALL)
_CRI: Final = re.compile(r"(\S+) (stdout|stderr) ([FP])(?::\S*)?(?: (.*))?", re.DOTALL)


class Piece(NamedTuple):
    """What a container wrote, as its runtime logged it: `more` of the same line follows where it was split."""

    text: str
    stream: str
    time: str
    more: bool


def scalar_text(value: object) -> str | None:
    """Text, number or truth value as JSON has them; None for all else. 3.0 is 3: JSON has one kind of number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 10**15 else repr(value)
    return None


def metadata_text(value: object) -> str | None:
    """As `scalar_text`; objects and lists are JSON."""
    if not isinstance(value, dict | list):
        return scalar_text(value)
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # integers above 64 bits
        return json.dumps(value, ensure_ascii=False)


def json_fields(text: str) -> Fields | None:
    """The fields of a JSON object; None for anything else. Of a name that comes twice the last one counts.

    Takes what the standard library writes and JSON does not know: NaN, Infinity, and halves of surrogate pairs
    (which become U+FFFD, since nothing can encode them).
    """
    try:
        fields = orjson.loads(text)
    except ValueError:
        text = text.strip().removeprefix("\ufeff")
        if not (text.startswith("{") and text.endswith("}")):
            return None
        try:
            fields = json.loads(text)
            if "\\u" in text:
                whole = json.dumps(fields, ensure_ascii=False)
                fields = json.loads(whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
        except (ValueError, RecursionError):
            return None
    return fields if isinstance(fields, dict) else None


def logfmt_fields(text: str) -> Fields | None:
    """The fields of a logfmt line, all as text (a key alone is `true`); None where there is no `key=value` at all."""
    fields: Fields = {}
    pairs = 0
    for key, equals, quoted, bare in _LOGFMT.findall(text):
        pairs += bool(equals)
        fields[key] = (_unquoted(quoted) if quoted else bare) if equals else "true"
    return fields if pairs else None


def _unquoted(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        found = orjson.loads(f'"{text}"')
    except ValueError:
        return text.replace('\\"', '"')
    return str(found)


def regex_fields(pattern: Pattern, text: str) -> Fields | None:
    """The named groups that took part in the match; None where there is none."""
    return pattern.named_groups(text)


def cri_piece(text: str) -> Piece | None:
    match = _CRI.fullmatch(text)
    return None if match is None else Piece(match[4] or "", match[2], match[1], match[3] == "P")


def docker_piece(text: str) -> Piece | None:
    """Docker splits at 16 KiB: what has no newline at its end goes on in the next line of the same stream."""
    fields = json_fields(text)
    log = fields.get("log") if fields is not None else None
    if fields is None or not isinstance(log, str):
        return None
    content = log.removesuffix("\n")
    stream, time = fields.get("stream"), fields.get("time")
    return Piece(
        content.removesuffix("\r"),
        stream if isinstance(stream, str) else "",
        time if isinstance(time, str) else "",
        content is log,
    )
