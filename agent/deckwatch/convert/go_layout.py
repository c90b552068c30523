"""Time formats of Go, as reference times (https://pkg.go.dev/time#Layout), to those of strptime."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: Names that Promtail has for layouts, with the layout; empty where Deckwatch reads the times without a format.
_NAMED: Final = {
    "RFC3339": "",
    "RFC3339Nano": "",
    "Unix": "",
    "UnixMs": "",
    "UnixUs": "",
    "UnixNs": "",
    "ANSIC": "Mon Jan _2 15:04:05 2006",
    "UnixDate": "Mon Jan _2 15:04:05 MST 2006",
    "RubyDate": "Mon Jan 02 15:04:05 -0700 2006",
    "RFC822": "02 Jan 06 15:04 MST",
    "RFC822Z": "02 Jan 06 15:04 -0700",
    "RFC850": "Monday, 02-Jan-06 15:04:05 MST",
    "RFC1123": "Mon, 02 Jan 2006 15:04:05 MST",
    "RFC1123Z": "Mon, 02 Jan 2006 15:04:05 -0700",
}
_ZONES: Final = r"Z07:00|Z0700|Z07|-07:00|-0700|-07"
#: What Deckwatch reads without a format, with any fraction.
_PLAIN: Final = re.compile(rf"2006-01-02[T ]15:04:05(?:[.,](?:0{{1,9}}|9{{1,9}}))?(?P<zone> ?(?:{_ZONES}))?")
_TOKENS: Final = {
    "January": "%B",
    "Jan": "%b",
    "Monday": "%A",
    "Mon": "%a",
    "MST": "%Z",
    "2006": "%Y",
    "002": "%j",
    "01": "%m",
    "02": "%d",
    "03": "%I",
    "04": "%M",
    "05": "%S",
    "06": "%y",
    "_2": "%d",
    "15": "%H",
    "PM": "%p",
    "pm": "%p",
    "1": "%m",
    "2": "%d",
    "3": "%I",
    "4": "%M",
    "5": "%S",
}
_TOKEN: Final = re.compile(
    rf"(?P<zone>{_ZONES})|(?P<fraction>[.,](?:0+|9+)(?![0-9]))|(?P<token>{'|'.join(_TOKENS)})|(?P<text>.)", re.DOTALL
)


class Layout(NamedTuple):
    """A format for `time_format`, `` for what needs none, and whether times have an offset.

    Of the names of zones (`MST`), strptime knows UTC and GMT.
    """

    time_format: str
    has_zone: bool


def converted(layout: str) -> Layout | None:
    """The layout for strptime; None if there is none."""
    layout = _NAMED.get(layout, layout)
    if not layout:
        return Layout("", True)
    plain = _PLAIN.fullmatch(layout)
    if plain is not None:
        return Layout("", plain["zone"] is not None)
    parts: list[str] = []
    has_zone = False
    for found in _TOKEN.finditer(layout):
        if found["zone"]:
            has_zone = True
            parts.append("%z")
        elif found["fraction"]:
            if len(found[0]) > 7:
                return None  # strptime reads microseconds
            parts.append(f"{found[0][0]}%f")
        elif found["token"]:
            parts.append(_TOKENS[found[0]])
        elif found[0].isdigit():
            return None
        else:
            parts.append("%%" if found[0] == "%" else found[0])
    made = "".join(parts)
    return Layout(made, has_zone) if "%" in made else None
