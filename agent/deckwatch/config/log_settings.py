"""The `logs` part of the config."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from .patterns import Pattern
from .urls import split_http_url
from .values import Duration, Secret, Settings, Size

_LEAST_SPOOL_BYTES = 256 * 1024
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _label_name(name: str) -> str:
    if not _LABEL.fullmatch(name) or len(name) > 1024:
        raise ValueError("a label name: letters, digits and _, and no digit at the beginning")
    return name


LabelName = Annotated[str, AfterValidator(_label_name)]
Ratio = Annotated[float, Field(ge=0, le=1)]


class MultilineSettings(Settings):
    """Lines that do not match `first_line` belong to the one before, for at most `max_wait` and `max_lines`."""

    first_line: Pattern
    max_wait: Duration = 3.0
    max_lines: Annotated[int, Field(ge=1)] = 1000


class RuleSettings(Settings):
    """`field` is a field of the line, `level`, or `line` for its whole text; `matches` a regular expression in it."""

    field: str = "line"
    matches: Pattern


class RedactSettings(Settings):
    """What `matches` becomes `replacement`; `kind` stands for a pattern that is well known."""

    kind: Literal["email", "card", "token", "pattern"] = "pattern"
    matches: Pattern | None = None
    replacement: str = "***"


class SampleSettings(Settings):
    """Of the lines of this level, this ratio is kept (the first of each so many)."""

    level: str
    ratio: Ratio


class TlsSettings(Settings):
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False


class LokiSettings(Settings):
    """One destination."""

    url: str
    name: str = ""  # in metrics; the host of the URL without one
    labels: dict[LabelName, str] = Field(default_factory=dict)
    tenant: str | None = None
    username: str | None = None
    password: Secret | None = None
    bearer_token: Secret | None = None
    tls: TlsSettings = TlsSettings()
    encoding: Literal["json", "protobuf"] = "json"
    batch_bytes: Size = 1024 * 1024
    batch_wait: Duration = 1.0
    timeout: Duration = 10.0
    max_backoff: Duration = 60.0

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        split_http_url(url)
        return url

    @model_validator(mode="after")
    def _one_password(self) -> LokiSettings:
        given = (self.password, self.bearer_token, split_http_url(self.url).password)
        if sum(one is not None for one in given) > 1:
            raise ValueError("only one of: a password in url, password (or password_file), bearer_token")
        return self


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


class FileSettings(Settings):
    """Files that are followed: a glob (`**` for any depth), how a line is read, and what becomes of it."""

    path: str
    exclude: tuple[str, ...] = ()
    format: Literal["json", "logfmt", "cri", "docker", "regex", "raw"] = "json"
    pattern: Pattern | None = None  # of format `regex`: named groups are fields
    multiline: MultilineSettings | None = None
    labels: dict[LabelName, str] = Field(default_factory=dict)
    label_fields: dict[LabelName, str] = Field(default_factory=lambda: {"level": "level"})  # label: field
    metadata_fields: tuple[str, ...] = ("trace_id", "span_id", "request_id", "user", "user_id")
    level_field: tuple[str, ...] = ("level", "levelname", "severity", "lvl")
    time_field: tuple[str, ...] = ("timestamp", "time", "ts", "@timestamp", "asctime")
    time_format: str = ""  # strptime's; without one: RFC 3339, Unix seconds, ms, us or ns, Python's asctime
    filename_label: bool = True
    drop: tuple[RuleSettings, ...] = ()
    keep: tuple[RuleSettings, ...] = ()
    redact: tuple[RedactSettings, ...] = ()
    sample: tuple[SampleSettings, ...] = ()
    max_line_bytes: Size = 256 * 1024


class LogsSettings(Settings):
    """One destination or several, the files that go there, and the spool between them."""

    loki: LokiSettings | tuple[LokiSettings, ...]
    spool: SpoolSettings = SpoolSettings()
    files: tuple[FileSettings, ...] = ()
    own: bool = True  # the agent's log and events
    own_labels: dict[LabelName, str] = Field(default_factory=lambda: {"job": "deckwatch"})
    poll_interval: Duration = 0.25

    @property
    def destinations(self) -> tuple[LokiSettings, ...]:
        return self.loki if isinstance(self.loki, tuple) else (self.loki,)
