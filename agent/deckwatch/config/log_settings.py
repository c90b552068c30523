"""The `logs` part of the config."""

from __future__ import annotations

import socket
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from .http_destination import HttpDestination
from .journal_settings import JournalSettings
from .log_metrics import LogMetricSettings, checked_declarations
from .log_parsing_settings import Encoding, LineSettings, TimeZone
from .log_settings_parts import LabelName, RedactSettings, RuleSettings, SampleSettings
from .patterns import Pattern
from .urls import split_http_url
from .values import Duration, Secret, Settings, Size

_LEAST_SPOOL_BYTES = 256 * 1024


def _names_labels(pattern: Pattern) -> Pattern:
    if not pattern.names:
        raise ValueError("a regular expression with a named group for each label: '/apps/(?P<app>[^/]+)/'")
    return pattern


PathLabels = Annotated[Pattern, AfterValidator(_names_labels)]


class MultilineSettings(Settings):
    """Lines that do not match `first_line` belong to the one before, for at most `max_wait` and `max_lines`."""

    first_line: Pattern
    max_wait: Duration = 3.0
    max_lines: Annotated[int, Field(ge=1)] = 1000


class LokiSettings(HttpDestination):
    """One destination."""

    labels: dict[LabelName, str] = Field(default_factory=dict)
    tenant: str | None = None
    proxy_url: Secret | None = None  # http://, with a user and a password if it needs them
    encoding: Literal["json", "protobuf"] = "json"
    batch_bytes: Size = 1024 * 1024
    batch_wait: Duration = 1.0

    @field_validator("proxy_url")
    @classmethod
    def _is_a_proxy(cls, url: Secret | None) -> Secret | None:
        try:
            parts = split_http_url(url.get_secret_value().strip()) if url is not None else None
        except ValueError:
            parts = urlsplit("")
        if parts is not None and (parts.scheme != "http" or parts.path not in ("", "/") or parts.query):
            raise ValueError("the URL of an HTTP proxy, such as http://proxy.example:3128")
        return Secret(url.get_secret_value().strip()) if url is not None else None


class SpoolSettings(Settings):
    """The buffer on disk, in `logs` under the state directory unless `dir` says otherwise."""

    dir: str | None = None
    max_bytes: Size = 1024**3
    when_full: Literal["drop_oldest", "drop_newest", "block"] = "drop_oldest"
    segment_bytes: Size = 16 * 1024**2

    @field_validator("max_bytes")
    @classmethod
    def _holds_segments(cls, size: int) -> int:
        if size < _LEAST_SPOOL_BYTES:
            raise ValueError(f"at least {_LEAST_SPOOL_BYTES // 1024}KiB")
        return size


LevelNumbers = Literal["auto", "python", "pino", "syslog", "otel", "unchanged"]


class FileSettings(LineSettings):
    """Files that are followed: a glob (`**` for any depth), how a line is read, and what becomes of it."""

    path: str
    exclude: tuple[str, ...] = ()
    format: Literal["json", "logfmt", "cri", "docker", "regex", "raw"] = "json"
    inner_format: Literal["auto", "json", "logfmt", "regex", "raw"] = "auto"  # of cri and docker; auto: JSON, if it is
    encoding: Encoding = "utf-8"
    start_at: Literal["beginning", "end"] = "beginning"  # of files that are there when the rule is new
    ignore_older: Duration | None = None  # what files hold that last changed earlier than that is not read
    multiline: MultilineSettings | None = None
    labels: dict[LabelName, str] = Field(default_factory=dict)
    path_labels: PathLabels | None = None  # named groups are labels
    label_fields: dict[LabelName, str] = Field(default_factory=lambda: {"level": "level"})  # label: field
    metadata_fields: tuple[str, ...] = ("trace_id", "span_id", "request_id", "user", "user_id")
    level_field: tuple[str, ...] = ("level", "levelname", "severity", "lvl", "levelno")
    levels: LevelNumbers = "auto"  # what numbers as levels mean; `unchanged`: the label is the text
    time_field: tuple[str, ...] = ("timestamp", "time", "ts", "@timestamp", "asctime")
    time_format: str = ""  # strptime's; without one: RFC 3339, Unix seconds, ms, us or ns, Python's asctime
    timezone: TimeZone = ""  # of times without an offset; without one: the local time
    filename_label: bool = True
    drop: tuple[RuleSettings, ...] = ()
    keep: tuple[RuleSettings, ...] = ()
    redact: tuple[RedactSettings, ...] = ()
    sample: tuple[SampleSettings, ...] = ()
    metrics: tuple[LogMetricSettings, ...] = ()  # lines that rules drop are counted, too
    max_line_bytes: Size = 256 * 1024

    @model_validator(mode="after")
    def _consistent(self) -> FileSettings:
        is_wrapped = self.format in ("cri", "docker")
        if self.inner_format != "auto" and not is_wrapped:
            raise ValueError("inner_format only with format: cri or format: docker")
        self.check_line(self.line_format)
        return self

    @property
    def line_format(self) -> str:
        """The format of what the application wrote."""
        return self.inner_format if self.format in ("cri", "docker") else self.format

    @property
    def replaces_runtime_time(self) -> bool:
        """Whether a time in the line counts more than the one of the container runtime."""
        return self.format in ("cri", "docker") and "time_field" in self.model_fields_set


class LogsSettings(Settings):
    """One destination or several, the files and journals that go there, and the spool between them."""

    loki: LokiSettings | tuple[LokiSettings, ...]
    spool: SpoolSettings = SpoolSettings()
    files: tuple[FileSettings, ...] = ()
    journal: tuple[JournalSettings, ...] = ()
    own: bool = True  # the agent's log and events
    own_labels: dict[LabelName, str] = Field(
        default_factory=lambda: {"job": "deckwatch", "instance": socket.gethostname()}
    )
    poll_interval: Duration = 0.25

    @field_validator("files")
    @classmethod
    def _one_declaration_for_each_metric(cls, files: tuple[FileSettings, ...]) -> tuple[FileSettings, ...]:
        checked_declarations(tuple(metric for one in files for metric in one.metrics))
        return files

    @field_validator("files")
    @classmethod
    def _has_a_label_for_each_line(
        cls, files: tuple[FileSettings, ...], info: ValidationInfo
    ) -> tuple[FileSettings, ...]:
        """Loki refuses streams without labels, and those from fields may be missing in a line."""
        found = info.data.get("loki", ())
        destinations = found if isinstance(found, tuple) else (found,)
        if destinations and not all(any(one.labels.values()) for one in destinations):
            for one in files:
                if not one.filename_label and not any(one.labels.values()):
                    raise ValueError(f"a fixed label for {one.path}: labels, filename_label: true, or loki.labels")
        return files

    @field_validator("journal")
    @classmethod
    def _declares_metrics_as_files_do(
        cls, journal: tuple[JournalSettings, ...], info: ValidationInfo
    ) -> tuple[JournalSettings, ...]:
        sources = (*info.data.get("files", ()), *journal)
        checked_declarations(tuple(metric for one in sources for metric in one.metrics))
        return journal

    @property
    def labels_of_own(self) -> dict[str, str]:
        """`own_labels`. Their default gives way to the instance of `loki.labels`, which applies to all streams."""
        if "own_labels" in self.model_fields_set or not any("instance" in one.labels for one in self.destinations):
            return self.own_labels
        return {name: value for name, value in self.own_labels.items() if name != "instance"}

    @property
    def metrics(self) -> tuple[LogMetricSettings, ...]:
        """The metrics of all files and journals."""
        sources: tuple[FileSettings | JournalSettings, ...] = (*self.files, *self.journal)
        return tuple(metric for one in sources for metric in one.metrics)

    @property
    def destinations(self) -> tuple[LokiSettings, ...]:
        return self.loki if isinstance(self.loki, tuple) else (self.loki,)
