"""The `logs.journal` part of the config: what is read from the journal of systemd."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .log_metrics import LogMetricSettings
from .log_parsing_settings import LineSettings, check_pattern
from .log_settings_parts import LabelName, RedactSettings, RuleSettings, SampleSettings
from .values import Duration, Size

#: systemd.journal-fields(7): at most 64 characters.
JOURNAL_FIELD = re.compile(r"_{0,2}[A-Z0-9][A-Z0-9_]{0,61}")
_UNIT = re.compile(r"[^\s/\x00-]\S{0,255}")


def _field_name(name: str) -> str:
    if not JOURNAL_FIELD.fullmatch(name):
        raise ValueError("a field of the journal: capital letters, digits and _, for example _COMM")
    return name


def _unit_name(name: str) -> str:
    if not _UNIT.fullmatch(name):
        raise ValueError("a unit, for example nginx.service, or a pattern: 'app-*.service'")
    return name


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("text without NUL")
    return text


FieldName = Annotated[str, AfterValidator(_field_name)]
UnitName = Annotated[str, AfterValidator(_unit_name)]
MatchText = Annotated[str, AfterValidator(_text)]


class JournalSettings(LineSettings):
    """Entries of these `units` that have a text of `match` in each field. Without a position: those of `max_age`."""

    units: tuple[UnitName, ...] = ()
    match: dict[FieldName, MatchText | tuple[MatchText, ...]] = Field(default_factory=dict)
    directory: str | None = None  # the journal of the machine without one
    max_age: Duration = 7 * 3600.0
    format: Literal["raw", "json", "logfmt", "regex"] = "raw"  # of MESSAGE; its fields join those of the journal
    labels: dict[LabelName, str] = Field(default_factory=dict)
    label_fields: dict[LabelName, str] = Field(
        default_factory=lambda: {"level": "level", "unit": "_SYSTEMD_UNIT", "container": "CONTAINER_NAME"}
    )
    metadata_fields: tuple[str, ...] = ("SYSLOG_IDENTIFIER", "_HOSTNAME", "_PID", "trace_id", "span_id", "request_id")
    level_field: tuple[str, ...] = ("level", "levelname", "severity", "lvl", "PRIORITY")
    drop: tuple[RuleSettings, ...] = ()
    keep: tuple[RuleSettings, ...] = ()
    redact: tuple[RedactSettings, ...] = ()
    sample: tuple[SampleSettings, ...] = ()
    metrics: tuple[LogMetricSettings, ...] = ()  # entries that rules drop are counted, too
    max_line_bytes: Size = 256 * 1024

    @model_validator(mode="after")
    def _consistent(self) -> JournalSettings:
        check_pattern(self.pattern, self.format == "regex")
        return self

    @property
    def needed_fields(self) -> frozenset[str]:
        """The fields of the journal that are needed."""
        named = {*self.label_fields.values(), *self.metadata_fields, *self.level_field, self.tenant_field}
        named |= {*self.output_fields, *(step.field for step in self.parse)}
        named |= {field for rule in (*self.drop, *self.keep) for field, _ in rule.patterns}
        for selector in self.fields.values():
            named |= selector.names
        for metric in self.metrics:
            named |= {metric.field, *metric.match, *metric.labels.values()}
        return frozenset({"MESSAGE", "PRIORITY"} | {name for name in named if JOURNAL_FIELD.fullmatch(name)})
