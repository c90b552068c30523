"""Reads an exposition: the series of its lines, as a scrape would store them.

The lines are those of `/metrics` in the text format 0.0.4, so that what is sent equals what a scrape would read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LABEL = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


class Metadata(NamedTuple):
    """What HELP and TYPE say of a metric."""

    name: str
    type: str
    help: str


class Line(NamedTuple):
    """One sample. `key` is the line up to the value; `time` is in milliseconds, if the line has one."""

    key: bytes
    value: float
    time: int | None
    metadata: Metadata


@dataclass(frozen=True)
class OwnLabels:
    """The labels that a scrape adds, and those that are only added where a series lacks them."""

    job: str
    instance: str
    external: Mapping[str, str]

    def of(self, key: bytes) -> tuple[tuple[str, str], ...]:
        """All labels of a series, by name. A label that the scrape's replace becomes `exported_...`."""
        name, _, rest = key.decode("utf-8", "replace").partition("{")
        labels = {"__name__": name}
        for label, value in _LABEL.findall(rest):
            text = _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[0]), value) if "\\" in value else value
            labels[f"exported_{label}" if label in ("job", "instance") else label] = text
        labels |= {"job": self.job, "instance": self.instance}
        complete = {**self.external, **labels}
        return tuple(sorted((label, value) for label, value in complete.items() if value))


def lines_of(exposition: bytes) -> Iterator[Line]:
    """The samples of an exposition in the text format 0.0.4."""
    helps: dict[str, str] = {}
    metadata = Metadata("", "untyped", "")
    for line in exposition.split(b"\n"):
        if line.startswith(b"# "):
            words = line.decode("utf-8", "replace").split(" ", 3)
            if len(words) == 4 and words[1] == "HELP":
                helps[words[2]] = words[3]
            elif len(words) == 4 and words[1] == "TYPE":
                metadata = Metadata(words[2], words[3], helps.get(words[2], ""))
            continue
        if not line:
            continue
        # The value has no brace, so that the last one ends the labels.
        end = line.rfind(b"}") + 1 or line.index(b" ")
        value, _, time = line[end + 1 :].partition(b" ")
        yield Line(line[:end], float(value), int(time) if time else None, metadata)
