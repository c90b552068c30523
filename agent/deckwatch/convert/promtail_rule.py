"""A rule of `logs.files` or `logs.journal` that is made from the stages of one of Promtail's pipelines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .business import escaped

if TYPE_CHECKING:
    from .conversion import Conversion, LinedMap

#: The name of the whole text of a line, in rules and in `parse`.
LINE: Final = "line"
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


@dataclass
class Rule:
    """The state of a pipeline while its stages are converted.

    `labels` are fixed; `label_fields` and `metadata` are fields of the line by name; `known` are the fields by the
    names that the pipeline has for what it extracted. `line` is the field that is the line: after an `output` stage,
    another one.
    """

    found: Conversion
    is_journal: bool = False
    is_wrapped: bool = False  # in the format of Docker or of Kubernetes
    format: str = ""
    pattern: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    label_fields: dict[str, str] = field(default_factory=dict)
    metadata: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    parse: list[dict[str, str]] = field(default_factory=list)
    line: str = LINE
    has_time: bool = False
    has_filename: bool = True
    redacted: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)  # line, field, rule
    more: dict[str, Any] = field(default_factory=dict)  # other settings, as they are

    def add(self, key: str, value: dict[str, Any]) -> None:
        """Append to a list of the settings."""
        self.more.setdefault(key, []).append(value)

    def field_of(self, name: str) -> str | None:
        """The field that the pipeline calls so; None if no stage extracts it."""
        return self.known.get(name)

    def refuse_name(self, line: int) -> None:
        """Report that a field cannot be called `line`."""
        self.found.lost(line, "a field called line, which is the whole text in Deckwatch. Rename it.")

    def compute(self, name: str, expression: str, line: int) -> None:
        """Know `name` as the value of a JMESPath expression, at a line of the file."""
        if name == LINE:
            self.refuse_name(line)
            return
        if expression != name or not _IDENTIFIER.fullmatch(name):
            self.fields[name] = escaped(expression)
        self.known[name] = name

    def readable(self, name: str) -> str | None:
        """As `field_of`, for `parse`, which comes before expressions: plain paths stand for themselves."""
        known = self.known.get(name)
        expression = self.fields.get(known) if known is not None else None
        if expression is None:
            return known
        return expression if _PATH.fullmatch(expression) else None

    def read(self, kind: str, source: str, pattern: str, line: int) -> bool:
        """Read the line, or the field `source`, in a format. Return whether that is possible."""
        where = self.readable(source) if source else self.line
        if where is None:
            self.found.lost(line, f"{kind} with the source {source}: no stage before it extracts it as it is")
            return False
        if where == LINE and not self.format:
            self.format, self.pattern = kind, escaped(pattern)
        elif where != LINE or kind != self.format or kind == "regex":
            step = {"field": where, "format": kind} | ({"pattern": escaped(pattern)} if pattern else {})
            if step not in self.parse:
                self.parse.append(step)
        return True

    def settings(self) -> dict[str, Any]:
        """The settings of the rule, without those that say which lines it is about."""
        made: dict[str, Any] = {}
        if "format" in self.more:
            made["format"] = self.more.pop("format")
            made["inner_format"] = self.format or "raw"
        else:
            made["format"] = self.format or "raw"
        if self.pattern:
            made["pattern"] = self.pattern
        lists = {"parse": self.parse, "fields": self.fields, "labels": self.labels}
        made |= {key: value for key, value in lists.items() if value}
        made["label_fields"] = self.label_fields
        made["metadata_fields"] = self.metadata
        if "level" in self.label_fields or "level" in self.label_fields.values():
            by_priority = "PRIORITY" in self.known
            made["level_field"] = ["PRIORITY" if by_priority else self.label_fields.get("level", "level")]
            if not self.is_journal:
                made["levels"] = "unchanged"
        if not self.has_time and not self.is_wrapped and not self.is_journal:
            made["time_field"] = []
        if not self.has_filename and not self.is_journal:
            made["filename_label"] = False
        for line, source, rule in self.redacted:
            if source in (self.line, LINE):
                self.add("redact", rule)
            else:
                self.found.lost(line, f"replace with the source {source}. Only the text that is sent can be redacted.")
        if self.line != LINE:
            made["output"] = "{" + self.line + "}"
        return made | self.more


def expression(settings: LinedMap, key: str) -> str:
    """A regular expression of the settings, for the config."""
    return escaped(settings.text(key))
