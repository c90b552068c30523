"""`remote_write` in the config: receivers of Prometheus' remote write protocol, for hosts that cannot be scraped."""

from __future__ import annotations

import re
import socket
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator

from .http_destination import HttpDestination
from .values import Duration, Secret, Settings, Size

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LEAST_QUEUE_BYTES = 1024 * 1024


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, float) else value  # YAML reads 1.0 as a number


class QueueSettings(Settings):
    """The queue on disk. If it is full, the oldest samples are dropped and counted."""

    max_bytes: Size = 512 * 1024**2

    @field_validator("max_bytes")
    @classmethod
    def _holds_requests(cls, size: int) -> int:
        if size < _LEAST_QUEUE_BYTES:
            raise ValueError(f"at least {_LEAST_QUEUE_BYTES // 1024**2}MiB")
        return size


class RemoteWriteSettings(HttpDestination):
    """One receiver. `job` and `instance` are what a scrape would add; `labels` are added where a series lacks them."""

    job: Annotated[str, Field(min_length=1)] = "deckwatch"
    instance: Annotated[str, Field(min_length=1)] = Field(default_factory=socket.gethostname)
    labels: dict[str, str] = Field(default_factory=dict)
    interval: Duration | None = None  # the agent's
    protocol: Annotated[Literal["1.0", "2.0"], BeforeValidator(_as_text)] = "1.0"
    queue: QueueSettings = QueueSettings()

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for name in labels:
            if not _LABEL.fullmatch(name) or name.startswith("__") or name in ("job", "instance"):
                raise ValueError("names of labels such as env, other than job and instance, which have their own keys")
        return labels

    @field_validator("bearer_token")
    @classmethod
    def _fits_a_header(cls, token: Secret | None) -> Secret | None:
        text = token.get_secret_value().strip() if token is not None else ""
        if not text.isascii() or not text.isprintable():
            raise ValueError("a bearer_token in printable ASCII")
        return token

    @property
    def title(self) -> str:
        """The name in metrics and messages."""
        return self.name or urlsplit(self.url).hostname or ""


def checked_destinations(found: tuple[RemoteWriteSettings, ...]) -> tuple[RemoteWriteSettings, ...]:
    seen = set()
    for destination in found:
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,63}", destination.title):
            raise ValueError("a name of 1 to 63 letters, digits, and _ . : - for each")
        if destination.title in seen:
            raise ValueError(f"a different name for each: {destination.title!r} is there twice")
        seen.add(destination.title)
    return found
