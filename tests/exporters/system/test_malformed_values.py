"""A malformed value affects only its own series: each value and line of the captured files is corrupted in turn.

The test finds the series that depend on a value by changing it to another valid one.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from deckwatch.exporter import NotAvailable

from .subsystems import HOST, ON_FILES, collected, files_read

if TYPE_CHECKING:
    from pathlib import Path

_VALUE = re.compile(rb"[A-Za-z0-9_.]+")
_MALFORMED = (b"(null)", b"99999999999999999999999", b"\xff\xfe", b"-", b"1_0")

#: A malformed field affects more than its own series: the whole process, array, interrupt or file.
_COARSE = re.compile(r"proc/\d+/.*|proc/mdstat|proc/interrupts|.*\.prom|.*/flags|.*_dimm_label|.*/scaling_governor")
#: The order of lines has no meaning in these.
_UNORDERED = re.compile(
    r"proc/(meminfo|vmstat|stat|diskstats|pressure/.*|net/(arp|sockstat6?|snmp6|udp6?|tcp6?)|\d+/(status|io))"
    r"|.*/(numastat|node\d+/meminfo|cpu\.stat|memory\.events)|udev/.*|root/etc/os-release"
)


class Mutant:
    """A file in a copy of the captured tree, and the series of a collector for other contents of that file."""

    def __init__(self, name: str, tree: Path, path: Path) -> None:
        self.name = name
        self.path = path
        self.is_coarse = _COARSE.fullmatch(path.as_posix()) is not None
        self._dependents: dict[tuple[int, int], set[str]] = {}
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
            sample.series.text.replace(str(self._tree), ""): sample.value
            for sample in samples
            if not sample.series.name.startswith("node_textfile_mtime")
        }
        assert len({sample.series.text for sample in samples}) == len(samples)
        return values

    def replaced(self, start: int, end: int, text: bytes) -> dict[str, float]:
        return self.series(self.content[:start] + text + self.content[end:])

    def values(self) -> list[tuple[int, int]]:
        """Return where values start and end; in a long file, for some lines of each kind."""
        found = [match.span() for match in _VALUE.finditer(self.content)]
        return found[:: 1 + len(found) // 30]

    def dependents(self, start: int, end: int) -> set[str]:
        """Return the series that change with the value at this position."""
        if (start, end) not in self._dependents:
            changed = self.replaced(start, end, _another(self.content[start:end]))
            self._dependents[start, end] = {
                series for series in self.base.keys() | changed if self.base.get(series) != changed.get(series)
            }
        return self._dependents[start, end]

    def dependents_of_line(self, start: int, end: int) -> set[str]:
        found: set[str] = set()
        for match in _VALUE.finditer(self.content, start, end):
            found |= self.dependents(*match.span())
        return found

    def lines(self) -> list[tuple[int, int]]:
        found = [match.span() for match in re.finditer(rb"[^\n]+\n", self.content)]
        return found[:: 1 + len(found) // 12]

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


_FILES = [(name, path) for name in ON_FILES for path in files_read(name)]


@pytest.fixture(params=_FILES, ids=lambda param: f"{param[0]}-{param[1]}")
def mutant(request: pytest.FixtureRequest, tree: Path) -> Mutant:
    name, path = request.param
    return Mutant(name, tree, path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(HOST, tmp_path_factory.mktemp("mutants") / "host", symlinks=True)


def _assert_others_are_served(
    mutant: Mutant, found: dict[str, float], lost: set[str], changed: set[str], what: str
) -> None:
    """Assert that only the series in `lost` are absent, and only those in `changed` have another value."""
    assert mutant.base.keys() - found.keys() <= lost, f"lost with {what}"
    wrong = {series for series, value in found.items() if mutant.base.get(series, value) != value}
    assert wrong <= changed, f"changed with {what}"


def test_a_malformed_value_affects_only_the_series_that_depend_on_it(mutant: Mutant) -> None:
    for start, end in mutant.values():
        touched = mutant.dependents(start, end)
        line_start, line_end = mutant.line_of(start)
        # A word on which no series depends is part of the form of its line.
        lost = touched or mutant.dependents_of_line(line_start, line_end)
        for malformed in _MALFORMED:
            found = mutant.replaced(start, end, malformed)
            if not mutant.is_coarse:
                what = f"{malformed!r} at {start} in {mutant.content[line_start:line_end][:80]!r}"
                _assert_others_are_served(mutant, found, lost, touched, what)


def test_a_missing_or_repeated_field_does_not_cause_wrong_values(mutant: Mutant) -> None:
    for start, end in mutant.values():
        line_start, line_end = mutant.line_of(start)
        touched = mutant.dependents(start, end)
        line = mutant.dependents_of_line(line_start, line_end)
        if mutant.name == "tcpstat":  # a connection in a malformed line is in the state `unknown`
            touched = line
        for text in (b"", mutant.content[start:end] + b" " + mutant.content[start:end]):
            found = mutant.replaced(start, end, text)
            if not mutant.is_coarse:
                what = f"{text!r} at {start} in {mutant.content[line_start:line_end][:80]!r}"
                _assert_others_are_served(mutant, found, line, touched, what)


def test_a_missing_line_affects_only_its_own_series(mutant: Mutant) -> None:
    for start, end in mutant.lines():
        found = mutant.replaced(start, end, b"")
        if not mutant.is_coarse:
            touched = mutant.dependents_of_line(start, end)
            _assert_others_are_served(mutant, found, touched, touched, f"{mutant.content[start:end][:80]!r} missing")


def test_a_repeated_line_changes_nothing(mutant: Mutant) -> None:
    for start, end in mutant.lines():
        found = mutant.replaced(end, end, mutant.content[start:end])
        # A file with one value is malformed with two.
        if mutant.content.count(b"\n") > 1 and not mutant.is_coarse:
            assert found == mutant.base, f"{mutant.content[start:end][:80]!r} repeated"


def test_lines_in_another_order_change_nothing(mutant: Mutant) -> None:
    if _UNORDERED.fullmatch(mutant.path.as_posix()):
        lines = mutant.content.splitlines(keepends=True)

        assert mutant.series(b"".join(reversed(lines))) == mutant.base
