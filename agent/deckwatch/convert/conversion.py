"""What a converter returns, and how it reads a YAML file with line numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml


class NotConvertible(Exception):
    """The file is not of the format. The message says why; `line` is 0 when it concerns the whole file."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Note:
    """Something in the file that needs attention. `is_lost` if it has no counterpart in the result."""

    line: int
    what: str
    is_lost: bool


@dataclass
class Conversion:
    """Part of a Deckwatch config, as plain data, and the notes about it."""

    config: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def lost(self, line: int, what: str) -> None:
        self.notes.append(Note(line, f"not converted: {what}", True))

    def changed(self, line: int, what: str) -> None:
        self.notes.append(Note(line, what, False))


class LinedMap(dict[str, Any]):
    """A YAML mapping with the lines (from 1) of itself and of its keys."""

    line: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}

    def line_of(self, key: str) -> int:
        return self.lines.get(key, self.line)

    def maps(self, key: str) -> list[LinedMap]:
        """The mappings in a list. Raises NotConvertible."""
        found = self.get(key) or []
        if not isinstance(found, list) or not all(isinstance(it, LinedMap) for it in found):
            raise NotConvertible(f"{key} is not a list of mappings", self.line_of(key))
        return found

    def map(self, key: str) -> LinedMap:
        """A mapping; empty if it is missing. Raises NotConvertible."""
        found = self.get(key)
        if found is None:
            return LinedMap()
        if not isinstance(found, LinedMap):
            raise NotConvertible(f"{key} is not a mapping", self.line_of(key))
        return found

    def texts(self, key: str) -> list[str]:
        """The values in a list, as text. Raises NotConvertible."""
        found = self.get(key) or []
        if not isinstance(found, list) or any(isinstance(it, (list, dict)) for it in found):
            raise NotConvertible(f"{key} is not a list of names", self.line_of(key))
        return [str(it) for it in found]

    def text(self, key: str) -> str:
        """A scalar as text, `` if it is missing. Raises NotConvertible."""
        found = self.get(key)
        if isinstance(found, (list, dict)):
            raise NotConvertible(f"{key} is not text", self.line_of(key))
        return "" if found is None else str(found)


class _Loader(yaml.SafeLoader):
    pass


def _lined(loader: _Loader, node: yaml.MappingNode) -> LinedMap:
    loader.flatten_mapping(node)
    found = LinedMap()
    found.line = node.start_mark.line + 1
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        found[key] = loader.construct_object(value_node, deep=True)
        found.lines[key] = key_node.start_mark.line + 1
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _lined)


def read_yaml(text: str) -> LinedMap:
    """The mapping that a YAML file holds. Raises NotConvertible."""
    try:
        found = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as wrong:
        line = wrong.problem_mark.line + 1 if wrong.problem_mark else 0
        raise NotConvertible(f"not valid YAML: {wrong.problem or wrong.context}", line) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise NotConvertible("not valid YAML") from None
    if not isinstance(found, LinedMap):
        raise NotConvertible("not a YAML mapping")
    return found
