"""One malformed value costs one series: each value and each line of the captured files is corrupted in turn.

Which series depend on a value is found by changing it to another valid one.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from deckwatch.exporter import NotAvailable

from .subsystems import HOST, ON_FILES, collected, files_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_VALUE = re.compile(rb"[A-Za-z0-9_.]+")
_MALFORMED = (b"(null)", b"99999999999999999999999", b"\xff\xfe", b"-", b"1_0")

#: A malformed field costs more than the series that depend on it: all of its process, array, interrupt or user's file.
_COARSE = re.compile(
    r"proc/\d+/(stat|cmdline|task/.*)|proc/mdstat|proc/interrupts|.*\.prom|.*/net/.*/flags|.*_dimm_label"
)
#: The order of lines has no meaning in these.
_UNORDERED = re.compile(
    r"proc/(meminfo|vmstat|stat|diskstats|pressure/.*|net/(arp|sockstat6?|snmp6|udp6?|tcp6?)|\d+/(status|io))"
    r"|.*/(numastat|node\d+/meminfo|cpu\.stat|memory\.events)|udev/.*|root/etc/os-release"
)


class Mutant:
    """A file of a copy of the captured tree, and the series of a collector with another content of that file."""

    def __init__(self, name: str, tree: Path, path: Path) -> None:
        self.name = name
        self.content = (HOST / path).read_bytes()
        self._tree = tree
        self._file = tree / path
        self.base = self.series(self.content)

    def series(self, content: bytes) -> dict[str, float]:
        """The series by their text. Fails if the run fails or a series is repeated."""
        self._file.write_bytes(content)
        try:
            samples = collected(self.name, self._tree)
        except NotAvailable:
            samples = []
        finally:
            self._file.write_bytes(self.content)
        values = {
            re.sub(r"MTIME.*", "", sample.series.text.replace(str(self._tree), "")): sample.value
            for sample in samples
            if not sample.series.name.startswith("node_textfile_mtime")
        }
        assert len({sample.series.text for sample in samples}) == len(samples)
        return values

    def replaced(self, start: int, end: int, text: bytes) -> dict[str, float]:
        return self.series(self.content[:start] + text + self.content[end:])

    def values(self) -> list[tuple[int, int]]:
        """Where values start and end; of a long file, some of each kind of line."""
        found = [match.span() for match in _VALUE.finditer(self.content)]
        return found[:: 1 + len(found) // 60]

    def dependents(self, start: int, end: int) -> set[str]:
        """The series that change with the value at this place."""
        changed = self.replaced(start, end, _another(self.content[start:end]))
        return {series for series in self.base.keys() | changed if self.base.get(series) != changed.get(series)}

    def dependents_of_line(self, start: int, end: int) -> set[str]:
        found: set[str] = set()
        for match in _VALUE.finditer(self.content, start, end):
            found |= self.dependents(*match.span())
        return found

    def lines(self) -> list[tuple[int, int]]:
        found = [match.span() for match in re.finditer(rb"[^\n]+\n", self.content)]
        return found[:: 1 + len(found) // 20]

    def line_of(self, position: int) -> tuple[int, int]:
        end = self.content.find(b"\n", position)
        return self.content.rfind(b"\n", 0, position) + 1, end if end >= 0 else len(self.content)


def _another(value: bytes) -> bytes:
    """A valid value of the same form."""
    last = value[-1:]
    if last.isdigit():
        return value[:-1] + (b"1" if last == b"0" else b"%d" % (int(last) - 1))
    if last in b"abcdefABCDEF":
        return value[:-1] + (b"c" if last != b"c" else b"d")
    return value + b"q"


@pytest.fixture(
    params=[(name, path) for name in ON_FILES for path in files_read(name)], ids=lambda it: f"{it[0]}-{it[1]}"
)
def mutant(request: pytest.FixtureRequest, tree: Path) -> Iterator[Mutant]:
    yield Mutant(*request.param[:1], tree, request.param[1])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(HOST, tmp_path_factory.mktemp("mutants") / "host", symlinks=True)


def _assert_others_are_served(mutant: Mutant, found: dict[str, float], touched: set[str], what: str) -> None:
    lost = {series for series in mutant.base.keys() - found.keys() if series not in touched}
    assert lost == set(), f"lost with {what}"
    wrong = {series for series, value in found.items() if series in mutant.base and value != mutant.base[series]}
    assert wrong <= touched, f"changed with {what}"
    names = {series.partition("{")[0].strip() for series in touched}
    new = {series.partition("{")[0].strip() for series in found.keys() - mutant.base.keys()}
    assert new <= names, f"appeared with {what}"


def test_a_malformed_value_costs_only_the_series_that_depend_on_it(
    mutant: Mutant, request: pytest.FixtureRequest
) -> None:
    for start, end in mutant.values():
        touched = mutant.dependents(start, end)
        for malformed in _MALFORMED:
            found = mutant.replaced(start, end, malformed)
            if not _COARSE.fullmatch(request.node.callspec.params["mutant"][1].as_posix()):
                line = mutant.content[slice(*mutant.line_of(start))]
                _assert_others_are_served(mutant, found, touched, f"{malformed!r} at {start} in {line[:80]!r}")


def test_a_missing_or_repeated_field_gives_no_wrong_values(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    for start, end in mutant.values():
        line_start, line_end = mutant.line_of(start)
        touched = mutant.dependents(start, end)
        line: set[str] | None = None
        for text in (b"", mutant.content[start:end] + b" " + mutant.content[start:end]):
            found = mutant.replaced(start, end, text)
            if _COARSE.fullmatch(request.node.callspec.params["mutant"][1].as_posix()):
                continue
            if line is None:
                line = mutant.dependents_of_line(line_start, line_end)
            what = f"{text!r} at {start} in {mutant.content[line_start:line_end][:80]!r}"
            lost = mutant.base.keys() - found.keys()
            assert lost <= line, f"lost with {what}"
            wrong = {series for series, value in found.items() if mutant.base.get(series, value) != value}
            assert wrong <= touched, f"changed with {what}"


def test_a_missing_line_costs_only_its_own_series(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    for start, end in mutant.lines():
        found = mutant.replaced(start, end, b"")
        if not _COARSE.fullmatch(request.node.callspec.params["mutant"][1].as_posix()):
            touched = mutant.dependents_of_line(start, end)
            _assert_others_are_served(mutant, found, touched, f"{mutant.content[start:end][:80]!r} missing")


def test_a_repeated_line_changes_nothing(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    path = request.node.callspec.params["mutant"][1].as_posix()
    for start, end in mutant.lines():
        found = mutant.replaced(end, end, mutant.content[start:end])
        if path.endswith(".prom"):
            continue
        assert found == mutant.base, f"{mutant.content[start:end][:80]!r} repeated"


def test_lines_in_another_order_change_nothing(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    if _UNORDERED.fullmatch(request.node.callspec.params["mutant"][1].as_posix()):
        lines = mutant.content.splitlines(keepends=True)

        assert mutant.series(b"".join(reversed(lines))) == mutant.base
