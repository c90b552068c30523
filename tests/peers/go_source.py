"""Read metric declarations from Go source: constants, lists of label names, calls and their arguments.

This is not a Go parser. It understands the few forms in which exporters declare metrics with client_golang, and
returns None for an expression that it cannot evaluate, such as a name that is built at run time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|\'(?:\\.|[^\'\\])+\'|//[^\n]*|/\*.*?\*/', re.DOTALL)
_OPERATING_SYSTEM = re.compile(
    r"(!?)\b(aix|darwin|dragonfly|freebsd|linux|netbsd|openbsd|solaris|windows)\b"
)  # the ones that exporters have files for
_NAMED_FOR_OTHER = re.compile(r"_(aix|bsd|darwin|dragonfly|freebsd|macos|netbsd|openbsd|solaris|windows)(_\w+)?\.go$")
_STRING = re.compile(r"\b(\w+)\s*(?:string\s*)?(?::?=|:)\s*\"([^\"]*)\"\s*,?\s*$", re.MULTILINE)
_CONSTANT = re.compile(r"^(?:const |var |\t)(\w+)\s*(?:string\s*)?=\s*\"([^\"]*)\"\s*$", re.MULTILINE)
_ALIAS = re.compile(r"^\s*(\w+)\s*=\s*\w+\.(\w+)\s*$", re.MULTILINE)
_LIST = re.compile(r"\b(\w+)\s*(?::?=|:)\s*\[\]string\{([^}]*)\}")
_CONSTANT_LIST = re.compile(r"^(?:var |\t)(\w+)\s*=\s*\[\]string\{([^}]*)\}", re.MULTILINE)
_ASSIGNED = re.compile(r"(\w+)\"?\s*(?::?=|:)\s*(?:typed(?:Factor)?Desc\{\s*(?:desc:\s*)?)?(?:prometheus\.)?$")
_VALUE_TYPE = re.compile(r"\s*,\s*(?:valueType:\s*)?prometheus\.(\w+)Value")
_TYPES = {"Counter": "counter", "Gauge": "gauge", "Untyped": "unknown"}


@dataclass(frozen=True)
class Call:
    function: str
    arguments: list[str]
    before: str  # the text up to the function's name
    after: str  # the text behind the closing parenthesis


@dataclass(frozen=True)
class Declared:
    name: str
    type: str
    labels: tuple[str, ...]


class GoFile:
    def __init__(self, path: Path, package: GoPackage) -> None:
        self.path = path
        self.text = without_comments(path.read_text())
        self._package = package
        self.constants = unambiguous(_CONSTANT.findall(self.text))
        self.strings = unambiguous(_STRING.findall(self.text))
        self.constant_lists = {name: strings_in(items) for name, items in _CONSTANT_LIST.findall(self.text)}
        self.lists = {name: strings_in(items) for name, items in unambiguous(_LIST.findall(self.text)).items()}

    def calls(self, function: str) -> Iterator[Call]:
        """The calls of a function or constructor `{`, by its name as a regular expression."""
        for match in re.finditer(rf"\b({function})[({{]", self.text):
            inside, end = enclosed(self.text, match.end() - 1)
            yield Call(match[1], split(inside), self.text[: match.start()], self.text[end:])

    def string(self, expression: str) -> str | None:
        expression = expression.strip()
        if call := re.fullmatch(r"(?:prometheus\.)?BuildFQName\((.*)\)", expression, re.DOTALL):
            parts = [self.string(part) for part in split(call[1])]
            return None if None in parts else "_".join(part for part in parts if part)
        if call := re.fullmatch(r"fmt\.Sprintf\((.*)\)", expression, re.DOTALL):
            form, *values = (self.string(part) for part in split(call[1]))
            if form is None or None in values or form.count("%") != form.count("%s"):
                return None
            return form % tuple(values)
        if literal := re.fullmatch(r'"([^"]*)"', expression):
            return literal[1]
        if "+" in expression:
            parts = [self.string(part) for part in expression.split("+")]
            return None if None in parts else "".join(part for part in parts if part)
        return self._named(expression, self.strings, self._package.strings)

    def labels(self, expression: str) -> tuple[str, ...] | None:
        expression = expression.strip()
        if expression == "nil":
            return ()
        if literal := re.fullmatch(r"\[\]string\{(.*)\}", expression, re.DOTALL):
            names = [self.string(item) for item in split(literal[1])]
            return None if None in names else tuple(name for name in names if name)
        named = self._named(expression, self.lists, self._package.lists)
        return None if named is None else tuple(named)

    def _named(self, expression: str, own: Mapping[str, T], of_package: Mapping[str, T]) -> T | None:
        """What a constant, local variable or field stands for; a parameter hides a constant of the package."""
        name = expression.rsplit(".", 1)[-1]
        if name in own or not name.isidentifier():
            return own.get(name)
        parameter = re.search(rf"\b{name}\b(, \w+)* (string|\w+Subsystem)\b", self.text)
        return None if parameter or expression.startswith("c.") else of_package.get(name)

    def declarations(self, type_if_unknown: str | None = None) -> Iterator[Declared]:
        """What the file declares with `NewDesc`, as far as names and labels are constants and the type is known."""
        for call in self.calls(r"NewDesc"):
            name, labels = self.string(call.arguments[0]), self.labels(call.arguments[2])
            kind = self._type_of(call) or type_if_unknown
            constant = self.labels(call.arguments[3]) or re.findall(r'"(\w+)":', call.arguments[3])
            if name is not None and labels is not None and kind is not None:
                yield Declared(name, kind, (*constant, *labels))
        yield from self._instruments()

    def _instruments(self) -> Iterator[Declared]:
        """Counters and gauges of the exporter itself, which keep their own value: `NewGaugeVec(GaugeOpts{...})`."""
        for kind in ("Counter", "Gauge", "Summary", "Histogram"):
            for call in self.calls(rf"New{kind}(?:Vec)?"):
                options = call.arguments[0]
                if "Opts{" not in options:
                    continue
                inside, _ = enclosed(options, options.index("{"))
                given = dict(part.split(":", 1) for part in split(inside))
                parts = [self.string(given.get(key, '""')) for key in ("Namespace", "Subsystem", "Name")]
                labels = self.labels(call.arguments[1]) if len(call.arguments) > 1 else ()
                if None not in parts and labels is not None:
                    yield Declared("_".join(part for part in parts if part), kind.lower(), labels)

    def _type_of(self, call: Call) -> str | None:
        if match := _VALUE_TYPE.match(call.after):
            return _TYPES[match[1]]
        variable = _ASSIGNED.search(call.before)
        if variable is None:
            return None
        for file in (self, *self._package.files):
            use = re.search(
                rf"Const(Metric|Histogram|Summary)\(\s*(?:\w+\.)*(?:\w+\[\")?{variable[1]}(?:\"\])?\s*,(?:\s*prometheus\.(\w+)Value)?",
                file.text,
            )
            if use is not None:
                return use[1].lower() if use[1] != "Metric" else _TYPES.get(use[2])
        return None


class GoPackage:
    """The files of a folder that are built for Linux, without its tests; constants of the other folders by name."""

    def __init__(self, folder: Path, constants: GoPackage | None = None) -> None:
        self.strings: dict[str, str] = dict(constants.strings) if constants else {}
        self.lists: dict[str, list[str]] = {}
        self.files: list[GoFile] = []
        for path in sorted(folder.glob("*.go")):
            if not path.name.endswith("_test.go") and built_for_linux(path):
                self.files.append(GoFile(path, self))
        for file in self.files:
            self.strings |= file.constants
            self.lists |= file.constant_lists
        for file in self.files:
            for alias, name in _ALIAS.findall(file.text):
                if name in self.strings:
                    self.strings[alias] = self.strings[name]


def built_for_linux(path: Path) -> bool:
    if _NAMED_FOR_OTHER.search(path.name):
        return False
    constraint = re.search(r"^//go:build (.*)$", path.read_text(), re.MULTILINE)
    systems = _OPERATING_SYSTEM.findall(constraint[1]) if constraint else []
    wanted = {system for negated, system in systems if not negated}
    return ("!", "linux") not in systems and (not wanted or "linux" in wanted)


def unambiguous(found: list[tuple[str, str]]) -> dict[str, str]:
    """What each name stands for; a name with several values is a field or a local variable."""
    values: dict[str, set[str]] = {}
    for name, value in found:
        values.setdefault(name, set()).add(value)
    return {name: value.pop() for name, value in values.items() if len(value) == 1}


def without_comments(text: str) -> str:
    return _TOKEN.sub(lambda match: "" if match[0].startswith(("//", "/*")) else match[0], text)


def strings_in(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text)


def enclosed(text: str, start: int) -> tuple[str, int]:
    """What the bracket at `start` encloses, and where the text continues behind it."""
    depth, position = 0, start
    while True:
        if (token := _TOKEN.match(text, position)) is not None:
            position = token.end()
            continue
        depth += (text[position] in "({[") - (text[position] in ")}]")
        position += 1
        if depth == 0:
            return text[start + 1 : position - 1], position


def split(text: str) -> list[str]:
    """The arguments of a call: `text` at its commas, those inside brackets and strings aside."""
    parts, depth, begin, position = [], 0, 0, 0
    while position < len(text):
        if (token := _TOKEN.match(text, position)) is not None:
            position = token.end()
            continue
        depth += (text[position] in "({[") - (text[position] in ")}]")
        if text[position] == "," and depth == 0:
            parts.append(text[begin:position].strip())
            begin = position + 1
        position += 1
    parts.append(text[begin:].strip())
    return [part for part in parts if part]
