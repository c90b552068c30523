"""Finds, reads and validates the config file; all errors are reported at once."""

from __future__ import annotations

import os
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from .exporters import RegistryError
from .metric_names import refuse_built_in_names
from .model import AgentSettings, CommonSettings, Config, NamedSettings, TargetConfig
from .problems import ConfigError
from .source import Source, read
from .validation import near, validated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .exporters import ConfigurableExporter, Exporters
    from .log_settings import LogsSettings
    from .problems import Path

__all__ = ["find_config", "load_config", "validated"]

_SYSTEM_WIDE = FilePath("/etc/deckwatch/deckwatch.yml")
_DEFAULT_EXPORTERS: Mapping[str, Any] = {"system": {}}


def find_config(explicit: FilePath | None, environ: Mapping[str, str], folder: FilePath) -> FilePath | None:
    """The config file to use: the explicit one, `$DECKWATCH_CONFIG`, `folder`'s `deckwatch.yml`, the system's, or none.

    The first two are returned even if they do not exist: that the user's file is missing is an error.
    """
    if explicit is not None:
        return explicit
    if environ.get("DECKWATCH_CONFIG"):
        return FilePath(environ["DECKWATCH_CONFIG"])
    candidates = (folder / "deckwatch.yml", _SYSTEM_WIDE)
    return next((path for path in candidates if _is_there(path)), None)


def _is_there(path: FilePath) -> bool:
    """Whether the file exists. If that cannot be found out, reading it will say why."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def load_config(
    path: FilePath | None, environ: Mapping[str, str], registry: Exporters, *, allow_missing_secrets: bool = False
) -> Config:
    """The config in `path`, or the built-in default for None. Raises ConfigError with everything that is wrong.

    With `allow_missing_secrets`, secret files that do not exist are no error; their targets say which they lack.
    """
    source = _from_environment(environ, registry) if path is None else read(path, environ)
    source.allows_missing_secrets = allow_missing_secrets
    return _check(source, path, registry)


def _from_environment(environ: Mapping[str, str], registry: Exporters) -> Source:
    """The config without a file: the host, and each service with an environment variable."""
    exporters = dict(_DEFAULT_EXPORTERS)
    source = Source("no config file", {"exporters": exporters})
    for name in registry.names():
        try:
            exporter = registry.get(name)
        except RegistryError:
            continue  # an error only for a config that uses it
        wanted = exporter.from_environment
        value = environ.get(wanted.variable) if wanted else None
        if wanted and value and value.startswith(wanted.schemes or ""):
            where: Path = ("exporters", name, 0) if exporter.named else ("exporters", name)
            settings = {**wanted.settings, wanted.key: value}
            exporters[name] = [{"name": name, **settings}] if exporter.named else settings
            source.from_environment.add((*where, wanted.key))
            source.secrets.add(value)
            source.origins[where] = f"${wanted.variable}"
    if environ.get("LOKI_URL"):
        source.values["logs"] = {"loki": {"url": environ["LOKI_URL"]}}
        source.from_environment.add(("logs", "loki", "url"))
        source.secrets.add(environ["LOKI_URL"])
        source.origins["logs",] = "$LOKI_URL"
    return source


def _check(source: Source, path: FilePath | None, registry: Exporters) -> Config:
    values = {} if source.values is None else source.values
    if not isinstance(values, dict):
        # Not shown: a file that is not a config may contain a password.
        found = "a list" if isinstance(values, list) else "a single value"
        expected = "a mapping of keys such as `listen` and `exporters`"
        source.blame((), f"found {found}; expected {expected}", found, expected)
        raise ConfigError(source.problems)
    # Keys for YAML anchors, as Compose has them.
    values = {key: value for key, value in values.items() if not key.startswith("x-")}
    exporters = values.pop("exporters", _DEFAULT_EXPORTERS)
    logs = _logs(source, values.pop("logs", None), registry)
    settings = validated(source, AgentSettings, values, (), {"exporters", "logs"})
    targets = _targets(source, exporters, registry)
    if source.problems or settings is None:
        raise ConfigError(source.problems)
    if settings.web_config is not None and path is not None:
        # Relative to the file that names it, wherever the agent was started.
        settings = settings.model_copy(update={"web_config": str(path.parent / settings.web_config)})
    return Config(settings, tuple(targets), path, logs)


def _logs(source: Source, value: Any, registry: Exporters) -> LogsSettings | None:
    if value is None:
        return None
    from .log_settings import LogsSettings  # loaded only if logs are shipped

    if not isinstance(value, dict):
        source.reject(("logs",), value, "a mapping such as {loki: {url: ...}, files: [...]}")
        return None
    logs = validated(source, LogsSettings, value, ("logs",))
    if logs is not None:
        refuse_built_in_names(source, logs, ("logs",), registry)
    return logs


def _targets(source: Source, exporters: Any, registry: Exporters) -> list[TargetConfig]:
    if exporters is None:
        return []
    if not isinstance(exporters, dict):
        source.reject(("exporters",), exporters, "a mapping of exporters")
        return []
    targets: list[TargetConfig] = []
    for name, value in exporters.items():
        path: Path = ("exporters", name)
        if name not in registry.names():
            known = registry.names()
            source.blame(path, f"unknown exporter{near(name, known)}; there are: {', '.join(known)}")
            continue
        try:
            exporter = registry.get(name)
        except RegistryError as broken:
            source.blame(path, str(broken))
            continue
        if exporter.named:
            targets += _named_targets(source, exporter, value, path, registry)
        else:
            target = _target(source, exporter, {} if value is None else value, path, registry)
            targets += [target] if target is not None else []
    return targets


def _named_targets(
    source: Source, exporter: ConfigurableExporter, value: Any, path: Path, registry: Exporters
) -> list[TargetConfig]:
    if not isinstance(value, list):
        source.reject(path, value, "a list of targets, each with a `name`")
        return []
    targets = []
    lines: dict[str, int] = {}
    for index, item in enumerate(value):
        where: Path = (*path, index)
        target = _target(source, exporter, item, where, registry)
        targets += [target] if target is not None else []
        # Checked also when the rest of the target is wrong.
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str) and (*where, "name") not in source.fillers:
            if name in lines:
                source.reject((*where, "name"), name, f"a unique name: the target in line {lines[name]} has it too")
            lines.setdefault(name, source.line((*where, "name")))
    return targets


def _target(
    source: Source, exporter: ConfigurableExporter, value: Any, path: Path, registry: Exporters
) -> TargetConfig | None:
    if not isinstance(value, dict):
        source.reject(path, value, "a mapping of settings")
        return None
    shared = NamedSettings if exporter.named else CommonSettings
    common_values = {key: item for key, item in value.items() if key in shared.model_fields}
    own_values = {key: item for key, item in value.items() if key not in shared.model_fields}
    common = validated(source, shared, common_values, path)
    own = validated(source, exporter.settings, own_values, path, set(shared.model_fields))
    for wrong in sorted((common.disable if common else frozenset()) - set(exporter.collectors)):
        known = ", ".join(exporter.collectors)
        hint = f"there are: {known}" if known else "this exporter has one collector: remove the target instead"
        source.blame((*path, "disable"), f"unknown collector {wrong!r}{near(wrong, exporter.collectors)}; {hint}")
    if own is not None:
        refuse_built_in_names(source, own, path, registry)
    if common is None or own is None:
        return None
    name = common.name if isinstance(common, NamedSettings) else ""
    lacks = tuple(file for where, file in source.missing_secrets.items() if where[: len(path)] == path)
    return TargetConfig(exporter.name, name, own, common.interval, common.max_series, common.disable, lacks)
