"""The settings of the agent itself, and a whole config as the agent takes it: frozen and valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from .values import Duration, Settings, Size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import BaseModel


def split_listen(address: str) -> tuple[str, int]:
    """Host (`` for all) and port of `127.0.0.1:9797`, `[::1]:9797`, `:9797`. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not port.isascii()
        or not port.isdigit()
        or not 0 <= int(port) <= 65535
        or (":" in host and not bracketed)
    ):
        raise ValueError("an address such as 127.0.0.1:9797, [::1]:9797 or :9797 (all addresses)")
    return (host[1:-1] if bracketed else host), int(port)


def _checked_listen(address: str) -> str:
    split_listen(address)
    return address


Ratio = Annotated[float, Field(ge=0, le=1)]


class Thresholds(Settings):
    """Exported as `deckwatch_threshold_*`: alert rules and dashboards read them from there."""

    cpu_ratio: Ratio = 0.80
    process_memory_bytes: Size = 512 * 1024 * 1024
    slow_query: Duration = 1.0
    cache_hit_ratio: Ratio = 0.80


class AgentSettings(Settings):
    """The top level of the file, except `exporters`."""

    listen: Annotated[str, AfterValidator(_checked_listen)] = "127.0.0.1:9797"
    web_config: str | None = None
    interval: Duration = 15.0
    enable_lifecycle: bool = False
    thresholds: Thresholds = Thresholds()


class CommonSettings(Settings):
    """What every exporter's target takes beside its own settings."""

    interval: Duration | None = None
    max_series: Annotated[int, Field(gt=0)] | None = None


class NamedSettings(CommonSettings):
    """What the targets of an exporter that has a list of them take as well."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,63}$")]


@dataclass(frozen=True)
class TargetConfig:
    """One thing to watch: its exporter, its name (`` for an exporter without named targets), and its settings."""

    exporter: str
    name: str
    settings: BaseModel
    interval: float | None = None
    max_series: int | None = None


@dataclass(frozen=True)
class Config:
    """A valid config. `path` is None for the built-in default."""

    settings: AgentSettings = field(default_factory=AgentSettings)
    targets: tuple[TargetConfig, ...] = ()
    path: Path | None = None

    @property
    def thresholds(self) -> Mapping[str, float]:
        values: dict[str, Any] = self.settings.thresholds.model_dump()
        return values


@dataclass(frozen=True)
class Difference:
    """What a reload has to do; a target whose settings changed is in both."""

    removed: tuple[TargetConfig, ...]
    added: tuple[TargetConfig, ...]


def changed(old: Config, new: Config) -> Difference:
    return Difference(
        removed=tuple(target for target in old.targets if target not in new.targets),
        added=tuple(target for target in new.targets if target not in old.targets),
    )
