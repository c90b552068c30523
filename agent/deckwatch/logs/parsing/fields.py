"""The fields of a line, by the settings: those of its format, of text within fields, and those with an expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deckwatch.config.log_parsing_settings import LEVEL, LINE, template_parts
from deckwatch.logs.parsing.formats import Fields, json_fields, logfmt_fields, metadata_text, regex_fields
from deckwatch.logs.parsing.levels import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.config.patterns import Pattern


class FieldReader:
    """Reads the fields of lines."""

    def __init__(self, settings: FileSettings) -> None:
        self._read = _reader(settings.line_format, settings.pattern)
        self._steps = [(step.field, _reader(step.format, step.pattern)) for step in settings.parse]
        self._computed = list(settings.fields.items())
        self._nested = _nested_paths(settings)
        #: Whether the fields are those of the format and no others.
        self.is_plain = not (self._steps or self._computed or self._nested)

    def read(self, text: str, outer: Fields | None = None) -> tuple[Fields, bool]:
        """The fields, and whether the text has the format. `outer` are fields that are not in the text."""
        found = self._read(text)
        fields: Fields = found or {}  # made for this line
        if outer:
            fields = {**outer, **fields}
        if not self.is_plain:
            self._add(fields, text)
        return fields, found is not None

    def _add(self, fields: Fields, text: str) -> None:
        for name, reader in self._steps:
            value = text if name == LINE else value_at(fields, name)
            if isinstance(value, str):
                fields |= reader(value) or {}
            elif isinstance(value, dict):
                fields |= value  # already an object: what wrote it decided so for this line
        if self._computed:
            # Expressions are evaluated before any is set: none sees the value of another.
            values = [(name, selector.find(fields)) for name, selector in self._computed]
            for name, value in values:
                fields.pop(name, None)
                if value is not None:
                    fields[name] = value
        for name, keys in self._nested:
            if name not in fields and (value := _at(fields, keys)) is not None:
                fields[name] = value


class Output:
    """The text that is sent instead of the line."""

    def __init__(self, template: str) -> None:
        self._parts = template_parts(template)

    def text(self, line: str, fields: Mapping[str, Any], level: str) -> str:
        """The text with the fields of a line; the line itself if it has none of them."""
        parts: list[str] = []
        has_any = False
        for before, name in self._parts:
            parts.append(before)
            if name is None:
                continue
            if name == LINE:
                found: str | None = line
            else:
                found = level if name == LEVEL and level != UNKNOWN else metadata_text(fields.get(name))
            if found is not None:
                has_any = True
                parts.append(found)
        text = "".join(parts)
        return text if has_any and text.strip() else line


def value_at(fields: Mapping[str, Any], name: str) -> Any:
    """The field of this name, or at this dotted path."""
    value = fields.get(name)
    return _at(fields, tuple(name.split("."))) if value is None and "." in name else value


def _at(fields: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    value: Any = fields
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _reader(kind: str, pattern: Pattern | None) -> Callable[[str], Fields | None]:
    if kind == "json":
        return json_fields
    if kind == "logfmt":
        return logfmt_fields
    if kind == "regex" and pattern is not None:
        return lambda text: regex_fields(pattern, text)
    if kind == "auto":
        return lambda text: (json_fields(text) if text.lstrip().startswith("{") else None) or {}
    return lambda _: {}


def _nested_paths(settings: FileSettings) -> list[tuple[str, tuple[str, ...]]]:
    """The names of fields in the settings that have dots, such as `log.level`, with the keys that lead there."""
    names = {*settings.level_field, *settings.time_field, *settings.label_fields.values(), *settings.metadata_fields}
    names |= {settings.tenant_field, *settings.output_fields}
    names |= {field for rule in (*settings.drop, *settings.keep) for field, _ in rule.patterns}
    for metric in settings.metrics:
        names |= {metric.field, *metric.match, *metric.labels.values()}
    return [(name, tuple(name.split("."))) for name in sorted(names) if "." in name.strip(".")]
