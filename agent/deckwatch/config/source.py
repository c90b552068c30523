"""A YAML file as plain values: with the place of every key and `${ENV}` replaced, before `*_file` is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from .problems import HIDDEN, ConfigError, Problem, dotted, is_secret_key, shown
from .regular_file import read_regular_file
from .values import Substituted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as FilePath

    from .problems import Path

_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{)[^}])*))?\}|\$\{")
_QUOTED = re.compile(r"""(['"])(?![<\\])(?:(?!\1).){2,}\1""")
_MAX_NODES = 100_000  # aliases can make a small file expand without limit
_MAX_BYTES = 4 * 1024 * 1024  # a config has kilobytes; /dev/zero has no end


@dataclass
class Source:
    """The values of a file, the place of each path, and the problems found so far."""

    file: str
    values: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    columns: dict[Path, int] = field(default_factory=dict)
    from_environment: set[Path] = field(default_factory=set)
    from_file: dict[Path, Path] = field(default_factory=dict)  # a secret's path: that of the `*_file` it came from
    origins: dict[Path, str] = field(default_factory=dict)  # what to name instead of the file
    secrets: set[str] = field(default_factory=set)  # no message may hold one of these
    problems: list[Problem] = field(default_factory=list)
    allows_missing_secrets: bool = False
    missing_secrets: dict[Path, str] = field(default_factory=dict)  # files that do not exist, where that is allowed
    fillers: set[Path] = field(default_factory=set)  # values that replace wrong ones, already reported

    def known(self, path: Path) -> Path:
        """The path, or the nearest enclosing path that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return path

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest enclosing one."""
        return self.lines.get(self.known(path), 0)

    def blame(self, path: Path, message: str, found: str = "", expected: str = "") -> None:
        column = self.columns.get(self.known(path), 0)
        message = " ".join(message.split())  # a validator's message may have several lines
        file = next((self.origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.origins), self.file)
        self.problems.append(Problem(file, self.line(path), dotted(path), message, column, found, expected))

    def reject(self, path: Path, value: Any, expected: str) -> None:
        """Report that a value is not what is expected."""
        found = self.shown(path, value)
        self.blame(path, f"found {found}; expected {expected}", found, expected)

    def shown(self, path: Path, value: Any, is_path: bool = False) -> str:
        """A value as an error may show it; that of a `*_file` is a path, not a secret."""
        if path in self.from_environment and not isinstance(value, (dict, list)):
            return "a value from the environment"
        if path in self.from_file:
            return "the content of that file"
        return shown(() if is_path else path, value)


def read(path: FilePath, environ: Mapping[str, str] | None, must_be_regular: bool = False) -> Source:
    """Read a YAML file, its `${ENV}` filled in unless `environ` is None.

    `must_be_regular` refuses pipes and devices, which may block; a config file may come from one (`/dev/stdin`).
    Raises ConfigError if the file has no usable values; other problems are collected.
    """
    source = Source(str(path))
    node = _compose(source, _text(source, path, must_be_regular))
    if node is not None:
        try:
            source.values = _Builder(source, environ).build(node, ())
        except RecursionError:
            raise _fatal(source, "is nested too deeply, or an anchor contains itself") from None
    return source


def _text(source: Source, path: FilePath, must_be_regular: bool) -> str:
    try:
        if must_be_regular:
            content = read_regular_file(path, _MAX_BYTES)
        else:
            with open(path, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise _fatal(source, f"is larger than {_MAX_BYTES // 1024**2} MiB, which is too large for a config file")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise _fatal(source, "no such file") from None
    except IsADirectoryError:
        raise _fatal(source, "is a directory, not a config file") from None
    except UnicodeDecodeError:
        raise _fatal(source, "is not UTF-8 text") from None
    except OSError as failure:
        raise _fatal(source, f"cannot be read: {failure.strerror}") from None
    except ValueError:
        raise _fatal(source, "contains an invalid character") from None


def _compose(source: Source, text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark
        what = f"is not valid YAML: {_plain(wrong)}"
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ConfigError([Problem(source.file, place[0], "", what, place[1])]) from None
    except yaml.reader.ReaderError as wrong:
        line = text.count("\n", 0, wrong.position) + 1
        code = wrong.character if isinstance(wrong.character, int) else ord(wrong.character)
        what = f"is not valid YAML: it contains the character U+{code:04X}, which YAML does not allow"
        raise ConfigError([Problem(source.file, line, "", what)]) from None
    except (yaml.YAMLError, ValueError):
        raise _fatal(source, "is not valid YAML") from None
    except RecursionError:
        raise _fatal(source, "is nested too deeply") from None


def _plain(wrong: yaml.MarkedYAMLError) -> str:
    """The parser's message without its quotes from the file: a password may begin with `*`, `&` or `!`."""
    problem, context = wrong.problem or "", wrong.context or ""
    if problem.startswith("found undefined alias"):
        return "a value that begins with * is an alias, but that anchor does not exist; quote the value if it is text"
    if problem.startswith("but found another document"):
        return "it contains a second document (after ---); a config has one"
    return _QUOTED.sub("a word", f"{context}: {problem}" if context and problem else problem or context)


def _fatal(source: Source, message: str) -> ConfigError:
    return ConfigError([Problem(source.file, 0, "", message)])


class _Builder:
    def __init__(self, source: Source, environ: Mapping[str, str] | None) -> None:
        self._source = source
        self._environ = environ
        self._scalars = yaml.SafeLoader("")
        self._nodes = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._mark(path, node)
        self._count()
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, frozenset())
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        raise _fatal(self._source, f"contains a node of an unknown kind: {type(node).__name__}")

    def _mark(self, path: Path, node: yaml.Node) -> None:
        """Record the place: that of the key, if there is one."""
        if path not in self._source.lines:
            self._source.lines[path] = node.start_mark.line + 1
            self._source.columns[path] = node.start_mark.column + 1

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _fatal(self._source, f"expands to more than {_MAX_NODES} values")

    def _mapping(self, node: yaml.MappingNode, path: Path, overridden: frozenset[str]) -> dict[str, Any]:
        """The mapping, without keys that the mapping it is merged into overrides."""
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merges: list[tuple[yaml.Node, yaml.Node]] = []
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                if merges:
                    self._twice(path, "<<", key_node, merges[0][0], "; merge several with <<: [*a, *b]")
                else:
                    merges.append((key_node, value_node))
            elif not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, path, "a key must be a plain word")
            elif key_node.value in own:
                self._twice((*path, key_node.value), key_node.value, key_node, own[key_node.value][0])
            else:
                own[key_node.value] = (key_node, value_node)
        values: dict[str, Any] = {}
        for key_node, value_node in merges:
            values.update(self._merged(key_node, value_node, path, overridden | own.keys()))
        for key, (key_node, value_node) in own.items():
            if key not in overridden:
                self._mark((*path, key), key_node)
                values[key] = self.build(value_node, (*path, key))
        return values

    def _merged(self, key: yaml.Node, node: yaml.Node, path: Path, overridden: frozenset[str]) -> dict[str, Any]:
        """The values that `<<` merges; with several mappings, the first one that has a key wins."""
        merged: dict[str, Any] = {}
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            self._count()
            if isinstance(part, yaml.MappingNode):
                merged.update(self._mapping(part, path, overridden | merged.keys()))
            else:
                self._problem(key, path, "<<: takes a mapping or a list of them")
        return merged

    def _twice(self, path: Path, key: str, second: yaml.Node, first: yaml.Node, remedy: str = "") -> None:
        where = path if key != "<<" else (*path, key)
        self._problem(second, where, f"is set twice, first in line {first.start_mark.line + 1}{remedy}")

    def _problem(self, node: yaml.Node, path: Path, message: str) -> None:
        mark = node.start_mark
        self._source.problems.append(Problem(self._source.file, mark.line + 1, dotted(path), message, mark.column + 1))

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if node.tag == "tag:yaml.org,2002:str":
            return self._filled_in(node, path)
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError):
            # The last two are how PyYAML fails on `!!bool maybe`, `!!int ""` and `!!timestamp x`.
            found = HIDDEN if is_secret_key(path) else shown((), node.value)
            self._source.blame(path, f"{found} cannot be read; quote it if it is text")
            self._source.fillers.add(path)
            return None
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        return node.value  # a date, say: here it is text

    def _filled_in(self, node: yaml.ScalarNode, path: Path) -> str:
        text: str = node.value
        environ = self._environ
        if "$" not in text or environ is None:
            return text

        def replace(match: re.Match[str]) -> str:
            name, default = match.groups()
            if match.group() == "$$":
                return "$"
            if name is None:
                # Not quoted: what follows may be part of a password.
                self._source.blame(
                    path,
                    "${ must be followed by the name of an environment variable and }, or by NAME:-default};"
                    " write $$ for a plain $",
                )
                self._source.fillers.add(path)
                return ""
            value = environ.get(name)
            if value or (value is not None and default is None):
                self._source.from_environment.add(path)
                self._source.secrets.add(value)
                return value
            if default is None:
                self._source.blame(path, f"the environment variable {name} is not set")
                self._source.fillers.add(path)
                return ""
            return str(default)

        filled = _REFERENCE.sub(replace, text)
        return Substituted(filled) if "${" in text else filled
