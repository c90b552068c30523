"""From a file to a `Config`: found, read, checked against the exporters' settings, every error at once."""

from __future__ import annotations

import difflib
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from .model import AgentSettings, CommonSettings, Config, NamedSettings, TargetConfig
from .problems import ConfigError, shown
from .source import Source, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.collector import Exporter
    from deckwatch.registry import Registry

    from .problems import Path

M = TypeVar("M", bound=BaseModel)

_SYSTEM_WIDE = FilePath("/etc/deckwatch/deckwatch.yml")
_DEFAULT_EXPORTERS: Mapping[str, Any] = {"system": {}}


def find_config(explicit: FilePath | None, environ: Mapping[str, str], folder: FilePath) -> FilePath | None:
    """The config file to use: the explicit one, `$DECKWATCH_CONFIG`, `folder`'s `deckwatch.yml`, the system's, or none.

    The first two are returned whether they exist or not: somebody named them, so that they are missing is an error.
    """
    if explicit is not None:
        return explicit
    if environ.get("DECKWATCH_CONFIG"):
        return FilePath(environ["DECKWATCH_CONFIG"])
    candidates = (folder / "deckwatch.yml", _SYSTEM_WIDE)
    return next((path for path in candidates if path.exists()), None)


def load_config(path: FilePath | None, environ: Mapping[str, str], registry: Registry) -> Config:
    """The config in `path`, or the built-in default for None. Raises ConfigError with everything that is wrong."""
    if path is None:
        return _check(Source("built-in default", _from_environment(environ, registry)), None, registry)
    return _check(read(path, environ), path, registry)


def _from_environment(environ: Mapping[str, str], registry: Registry) -> dict[str, Any]:
    """Without a file: the host, and each service whose variable is set."""
    exporters = dict(_DEFAULT_EXPORTERS)
    for name in registry.names():
        variable = registry.get(name).from_environment
        if variable and environ.get(variable):
            exporters[name] = [{"name": name, "url": environ[variable]}]
    return {"exporters": exporters}


def _check(source: Source, path: FilePath | None, registry: Registry) -> Config:
    values = {} if source.values is None else source.values
    if not isinstance(values, dict):
        source.blame((), f"holds {shown((), values)}; expected keys such as `listen` and `exporters`")
        raise ConfigError(source.problems)
    values = dict(values)
    exporters = values.pop("exporters", _DEFAULT_EXPORTERS)
    settings = validated(source, AgentSettings, values, (), {"exporters"})
    targets = _targets(source, exporters, registry)
    if source.problems or settings is None:
        raise ConfigError(source.problems)
    if settings.web_config is not None and path is not None:
        # Relative to the file that names it, wherever the agent was started.
        settings = settings.model_copy(update={"web_config": str(path.parent / settings.web_config)})
    return Config(settings, tuple(targets), path)


def _targets(source: Source, exporters: Any, registry: Registry) -> list[TargetConfig]:
    if exporters is None:
        return []
    if not isinstance(exporters, dict):
        source.blame(("exporters",), f"found {shown(('exporters',), exporters)}; expected a mapping of exporters")
        return []
    targets = []
    for name, value in exporters.items():
        path: Path = ("exporters", name)
        if name not in registry.names():
            near = _near(name, registry.names())
            source.blame(path, f"unknown exporter{near}; there are: {', '.join(registry.names())}")
            continue
        exporter = registry.get(name)
        if exporter.named:
            targets += _named_targets(source, exporter, value, path)
        else:
            target = _target(source, exporter, {} if value is None else value, path)
            targets += [target] if target is not None else []
    return targets


def _named_targets(source: Source, exporter: Exporter, value: Any, path: Path) -> list[TargetConfig]:
    if not isinstance(value, list):
        source.blame(path, f"found {shown(path, value)}; expected a list of targets, each with a `name`")
        return []
    targets = []
    lines: dict[str, int] = {}
    for index, item in enumerate(value):
        where: Path = (*path, index)
        target = _target(source, exporter, item, where)
        if target is None:
            continue
        if target.name in lines:
            source.blame(
                (*where, "name"), f"{target.name!r} is the name of the target in line {lines[target.name]} already"
            )
        lines.setdefault(target.name, source.line(where))
        targets.append(target)
    return targets


def _target(source: Source, exporter: Exporter, value: Any, path: Path) -> TargetConfig | None:
    if not isinstance(value, dict):
        source.blame(path, f"found {shown(path, value)}; expected a mapping of settings")
        return None
    shared = NamedSettings if exporter.named else CommonSettings
    common_values = {key: item for key, item in value.items() if key in shared.model_fields}
    own_values = {key: item for key, item in value.items() if key not in shared.model_fields}
    common = validated(source, shared, common_values, path)
    own = validated(source, exporter.settings, own_values, path, set(shared.model_fields))
    if common is None or own is None:
        return None
    name = common.name if isinstance(common, NamedSettings) else ""
    return TargetConfig(exporter.name, name, own, common.interval, common.max_series)


def validated(
    source: Source,
    model: type[M],
    values: dict[str, Any],
    path: Path,
    also_known: set[str] = frozenset(),  # type: ignore[assignment]  # an empty one
) -> M | None:
    """`values` as a `model`; None, and the problems with the source, where they are wrong."""
    complete = _with_file_contents(source, model, values, path)
    try:
        return model.model_validate(complete)
    except ValidationError as wrong:
        for error in wrong.errors(include_url=False):
            _blame(source, model, error, path, also_known)
        return None


def _blame(source: Source, model: type[BaseModel], error: Any, path: Path, also_known: set[str]) -> None:
    kind = error["type"]
    where = _place(source, path, error["loc"], kind)
    if kind == "extra_forbidden":
        known = sorted({*_fields_at(model, error["loc"][:-1]), *(also_known if len(error["loc"]) == 1 else ())})
        near = _near(str(error["loc"][-1]), known)
        source.blame(where, f"unknown key{near}" + (f"; there are: {', '.join(known)}" if known else ""))
    elif kind == "missing":
        source.blame(where, "is missing")
    else:
        found = "a value from the environment" if where in source.from_environment else shown(where, error["input"])
        source.blame(where, f"found {found}; expected {_expected(error)}")


def _place(source: Source, path: Path, location: tuple[str | int, ...], kind: str) -> Path:
    """Where in the file a fault is. pydantic names union members and validators as well; those stand in no file."""
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if (*path, part) in source.lines or (last and kind in ("missing", "extra_forbidden")) or not source.lines:
            path = (*path, part)
    return path


_PLAIN = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "model_type": "a mapping of settings",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}


def _expected(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "value_error":
        return str(context["error"])
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        word = {
            "greater_than": "above",
            "greater_than_equal": "not below",
            "less_than": "below",
            "less_than_equal": "not above",
        }
        return f"a number {word[kind]} {next(iter(context.values()))}"
    if kind == "string_pattern_mismatch":
        return f"text that matches {context['pattern']}"
    if kind == "literal_error":
        return f"one of {context['expected']}"
    message: str = error["msg"]
    return message[0].lower() + message[1:]


def _fields_at(model: type[BaseModel], location: tuple[str | int, ...]) -> set[str]:
    """The keys that the model takes at a place within it."""
    current: Any = model
    for part in location:
        if isinstance(part, int) or not hasattr(current, "model_fields"):
            continue
        field = current.model_fields.get(part)
        current = next(iter(_models_in(field.annotation)), None) if field else None
    return set(current.model_fields) if hasattr(current, "model_fields") else set()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def _near(word: str, known: Any) -> str:
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _with_file_contents(source: Source, model: type[BaseModel], values: dict[str, Any], path: Path) -> dict[str, Any]:
    """`password_file: PATH` as `password: <content>`, here and in the models within."""
    complete = dict(values)
    for name, field in model.model_fields.items():
        if _is_secret(field.annotation):
            key = f"{name}_file"
            if key in complete:
                content = _content(source, complete.pop(key), (*path, key))
                if name in values:
                    source.blame((*path, key), f"stands beside {name!r}; only one of the two may be given")
                elif content is not None:
                    complete[name] = content
                else:
                    complete[name] = ""  # blamed already; without it `missing` would be said as well
        for inner in _models_in(field.annotation):
            value = complete.get(name)
            if isinstance(value, dict):
                complete[name] = _with_file_contents(source, inner, value, (*path, name))
            elif isinstance(value, list):
                complete[name] = [
                    _with_file_contents(source, inner, item, (*path, name, index)) if isinstance(item, dict) else item
                    for index, item in enumerate(value)
                ]
    return complete


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())


def _content(source: Source, value: Any, path: Path) -> str | None:
    if not isinstance(value, str):
        source.blame(path, f"found {shown(path, value)}; expected the path of a file")
        return None
    file = FilePath(source.file).parent / value
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as failure:
        source.blame(path, f"{value!r} cannot be read: {failure.strerror}")
    except UnicodeDecodeError:
        source.blame(path, f"{value!r} is not UTF-8 text")
    return None
