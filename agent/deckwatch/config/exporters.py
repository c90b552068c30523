"""What the config needs to know of the installed exporters: their keys and their settings models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel


class RegistryError(Exception):
    """An exporter that is published but cannot be used; the message names who published it."""


class FromEnvironment(Protocol):
    """The environment variable that switches an exporter on where there is no config file."""

    @property
    def variable(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, object]: ...

    @property
    def schemes(self) -> tuple[str, ...]: ...


class ConfigurableExporter(Protocol):
    """An exporter as the config sees it."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> type[BaseModel]: ...

    @property
    def named(self) -> bool: ...

    @property
    def collectors(self) -> Sequence[str]: ...

    @property
    def from_environment(self) -> FromEnvironment | None: ...


class Exporters(Protocol):
    """The installed exporters by their config key. `get()` raises RegistryError.

    `exporter_of()` returns the exporter that declares the metric of a sample, `` if none does.
    """

    def names(self) -> list[str]: ...

    def get(self, name: str, /) -> ConfigurableExporter: ...

    def exporter_of(self, sample: str, /) -> str: ...
