"""A YAML file as plain values, with the line of every key, `${ENV}` filled in and `*_file` still to be read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from .problems import ConfigError, Problem, dotted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as FilePath

    from .problems import Path

_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{([^}]*)\}?")
_MAX_NODES = 100_000  # aliases can make a small file expand without end


@dataclass
class Source:
    """The values of a file, the line of each path, and the paths that the environment filled in."""

    file: str
    values: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    from_environment: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def blame(self, path: Path, message: str) -> None:
        self.problems.append(Problem(self.file, self.line(path), dotted(path), message))


def read(path: FilePath, environ: Mapping[str, str] | None) -> Source:
    """Read a YAML file, its `${ENV}` filled in unless `environ` is None.

    Raises ConfigError where there are no values to go on with; lesser faults are collected.
    """
    source = Source(str(path))
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise _fatal(source, "no such file") from None
    except IsADirectoryError:
        raise _fatal(source, "is a directory, not a config file") from None
    except UnicodeDecodeError:
        raise _fatal(source, "is not UTF-8 text, so no YAML config") from None
    except OSError as failure:
        raise _fatal(source, f"cannot be read: {failure.strerror}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark
        what = f"is not valid YAML: {wrong.problem or wrong.context}"
        raise ConfigError([Problem(source.file, mark.line + 1 if mark else 0, "", what)]) from None
    except (yaml.YAMLError, ValueError) as wrong:
        raise _fatal(source, f"is not valid YAML: {' '.join(str(wrong).split())[:200]}") from None
    except RecursionError:
        raise _fatal(source, "is nested too deeply") from None
    if node is not None:
        try:
            source.values = _Builder(source, environ).build(node, ())
        except RecursionError:
            raise _fatal(source, "is nested too deeply, or an anchor contains itself") from None
    return source


def _fatal(source: Source, message: str) -> ConfigError:
    return ConfigError([Problem(source.file, 0, "", message)])


class _Builder:
    def __init__(self, source: Source, environ: Mapping[str, str] | None) -> None:
        self._source = source
        self._environ = environ
        self._scalars = yaml.SafeLoader("")
        self._nodes = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._source.lines.setdefault(path, node.start_mark.line + 1)
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _fatal(self._source, f"expands to more than {_MAX_NODES} values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        raise _fatal(self._source, f"holds a node of an unknown kind: {type(node).__name__}")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged.update(self._merge(value_node, path, line))
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._source.problems.append(
                    Problem(self._source.file, line, dotted(path), "a key must be a plain word")
                )
                continue
            key = key_node.value
            where = (*path, key)
            if key in first:
                message = f"stands twice; the first one is in line {first[key]}"
                self._source.problems.append(Problem(self._source.file, line, dotted(where), message))
                continue
            first[key] = line
            self._source.lines[where] = line
            values[key] = self.build(value_node, where)
        return {**merged, **values}

    def _merge(self, node: yaml.Node, path: Path, line: int) -> dict[str, Any]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in reversed(nodes):
            if not isinstance(part, yaml.MappingNode):
                self._source.problems.append(
                    Problem(self._source.file, line, dotted(path), "<<: takes a mapping or a list of them")
                )
                continue
            merged.update(self._mapping(part, path))
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if node.tag == "tag:yaml.org,2002:str":
            return self._filled_in(node, path)
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            self._source.blame(path, f"{node.value!r} cannot be read; quote it if it is text")
            return None
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        return node.value  # a date, say: here it is text

    def _filled_in(self, node: yaml.ScalarNode, path: Path) -> Any:
        text: str = node.value
        environ = self._environ
        if "$" not in text or environ is None:
            return text

        def replace(match: re.Match[str]) -> str:
            name, default, malformed = match.groups()
            if match.group() == "$$":
                return "$"
            if malformed is not None:
                self._source.blame(path, f"${{{malformed}}} names no environment variable; write $$ for a plain $")
                return ""
            if name in environ:
                self._source.from_environment.add(path)
                return environ[name]
            if default is None:
                self._source.blame(path, f"the environment variable {name} is not set")
                return ""
            return default

        filled = _REFERENCE.sub(replace, text)
        if node.style is None and filled != text and path in self._source.from_environment:
            return _typed(filled)
        return filled


def _typed(text: str) -> Any:
    """What an unquoted value from the environment would be in YAML, as far as numbers and truth values go."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?(0|[1-9]\d{0,17})", text):
        return int(text)
    return text
