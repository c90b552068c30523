"""The settings of the agent, and a whole config: frozen and valid."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from .remote_write_settings import RemoteWriteSettings, checked_destinations
from .slo_settings import SloSettings, checked_names
from .urls import split_http_url
from .values import Duration, Settings, Size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import BaseModel

    from .log_settings import LogsSettings


_LISTEN = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[\w.-]*)):(?P<port>[0-9]{1,5})", re.ASCII)


def split_listen(address: str) -> tuple[str, int]:
    """Host (`` for all) and port of `127.0.0.1:9797`, `[::1]:9797`, `::1:9797`, `:9797`. Raises ValueError."""
    host, _, port = address.rpartition(":")
    # `$(HOST_IP):9797` on an IPv6 node of Kubernetes: the port is what follows the last colon.
    match = _LISTEN.fullmatch(f"[{host}]:{port}" if ":" in host and not host.startswith("[") else address)
    if match is None or int(match["port"]) > 65535 or not _is_host(match["v6"], match["host"]):
        raise ValueError("an address such as 127.0.0.1:9797, [::1]:9797 or :9797 (all addresses)")
    return match["v6"] or match["host"], int(match["port"])


def _is_host(v6: str | None, host: str | None) -> bool:
    try:
        if v6 is not None:
            socket.inet_pton(socket.AF_INET6, v6.partition("%")[0])
        elif host and not host.strip("0123456789."):
            socket.inet_pton(socket.AF_INET, host)  # digits and dots are no name
    except OSError:
        return False
    return True


def _checked_listen(address: Any) -> Any:
    if isinstance(address, int):
        raise ValueError(f"a host and a port such as 127.0.0.1:{address}, or :{address} for all addresses")
    if isinstance(address, str):
        split_listen(address)
    return address


def _checked_url(url: str) -> str:
    split_http_url(url)
    return url


Ratio = Annotated[float, Field(ge=0, le=1)]


class Thresholds(Settings):
    """Exported as `deckwatch_threshold_*`, which alert rules and dashboards use."""

    cpu_ratio: Ratio = 0.80
    process_memory_bytes: Size = 512 * 1024 * 1024
    slow_query: Duration = 1.0
    cache_hit_ratio: Ratio = 0.80


class AgentSettings(Settings):
    """The top level of the file, except `exporters` and `logs`."""

    listen: Annotated[str, BeforeValidator(_checked_listen)] = "127.0.0.1:9797"
    web_config: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    interval: Duration = 15.0
    enable_lifecycle: bool = False
    prometheus_url: Annotated[str, AfterValidator(_checked_url)] | None = None
    thresholds: Thresholds = Thresholds()
    slos: Annotated[tuple[SloSettings, ...], AfterValidator(checked_names)] = ()
    remote_write: Annotated[tuple[RemoteWriteSettings, ...], AfterValidator(checked_destinations)] = ()


class CommonSettings(Settings):
    """Settings of every target."""

    interval: Duration | None = None
    max_series: Annotated[int, Field(gt=0)] | None = None
    disable: frozenset[str] = frozenset()


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", name) or name == "-":
        # `/metrics?target=-` selects everything that belongs to no target.
        raise ValueError("a name of 1 to 63 letters, digits, and _ . -")
    return name


class NamedSettings(CommonSettings):
    """Settings of every named target."""

    name: Annotated[
        str,
        AfterValidator(_checked_name),
        WithJsonSchema({"type": "string", "pattern": r"^([A-Za-z0-9_.-]{1,63}|.*\$\{.*)$"}),
    ]


@dataclass(frozen=True)
class TargetConfig:
    """One target: its exporter, its name (`` for an exporter without named targets), its settings, and the
    collectors that it does without."""

    exporter: str
    name: str
    settings: BaseModel
    interval: float | None = None
    max_series: int | None = None
    disable: frozenset[str] = frozenset()
    lacks: tuple[str, ...] = ()  # secret files that do not exist, where that is allowed


@dataclass(frozen=True)
class Config:
    """A valid config. `path` is None for the built-in default."""

    settings: AgentSettings = field(default_factory=AgentSettings)
    targets: tuple[TargetConfig, ...] = ()
    path: Path | None = None
    logs: LogsSettings | None = None

    @property
    def thresholds(self) -> Mapping[str, float]:
        values: dict[str, Any] = self.settings.thresholds.model_dump()
        return values


@dataclass(frozen=True)
class Difference:
    """What a reload changes. A target with other settings is in `removed` (old) and in `added` (new)."""

    removed: tuple[TargetConfig, ...]
    added: tuple[TargetConfig, ...]
    changed: tuple[tuple[TargetConfig, TargetConfig], ...] = ()  # the old and the new one, for each of those
    unchanged: tuple[TargetConfig, ...] = ()


def changed(old: Config, new: Config) -> Difference:
    """Compare the targets of two configs, identified by exporter and name."""
    before = {(target.exporter, target.name): target for target in old.targets}
    after = {(target.exporter, target.name): target for target in new.targets}
    return Difference(
        removed=tuple(target for key, target in before.items() if after.get(key) != target),
        added=tuple(target for key, target in after.items() if before.get(key) != target),
        changed=tuple((target, after[key]) for key, target in before.items() if after.get(key, target) != target),
        unchanged=tuple(target for key, target in after.items() if before.get(key) == target),
    )
