"""Under random changes of files with similar names and equal beginnings, each line is read exactly once, in its stream.

The model has the lines of each file's content, and the streams (paths) in which they may come. Lines that no process
could still read, such as those of a file that was deleted while the agent was stopped, may be missing, but never come
twice. With DECKWATCH_SOAK=1 there are many more and longer runs.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agent.logs.tailing import Reader

_IS_SOAK = bool(os.environ.get("DECKWATCH_SOAK"))
BANNER = "# The banner that every file of this program begins with.\n" * 25
NAMES = ("app.log", "app.access.log", "app-errors.log", "app-2.log", "current.log")
#: Patterns with the names that they match, what is excluded, and the patterns of other rules.
RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "*.log": (NAMES, (), ()),
    "app.log": (("app.log",), (), ("app-*.log", "app.*.log")),
    "app.log*": (("app.log",), (), ("app-2.log",)),
    "app*.log": (("app.log", "app-errors.log"), ("app-2.log", "app.access.log"), ()),
}
_BACKUPS = 30


@dataclass
class Content:
    """What one file holds: unique lines, and the paths that they may be read as."""

    name: str
    streams: set[str]
    lines: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # since the agent last saw it
    is_rewritten: bool = False  # came into a file that had another content
    is_old: bool = False  # rotated before the agent knew its path: then it is not read, or under its present name


class RotatedFiles(RuleBasedStateMachine):
    @initialize(pattern=st.sampled_from(list(RULES)), banner=st.sampled_from(["", BANNER]), seed=st.integers(0, 2**32))
    def start(self, pattern: str, banner: str, seed: int) -> None:
        random.seed(seed)
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        (self.folder / "data").mkdir()
        self.names, exclude, others = RULES[pattern]
        self.banner = banner
        self.number = self.links = 0
        self.wall = time.time_ns() - 3600 * 10**9
        self.contents: dict[str, Content] = {}  # by name, of the files at their paths
        self.all: list[Content] = []
        self.maybe: set[str] = set()  # lines that may be missing
        self.is_stopped = False
        self.known: set[str] = set()  # names of paths that the agent has seen
        self.reader = Reader(self.folder / pattern, exclude, other_rules=[str(self.folder / other) for other in others])

    # What writers do.

    def write(self, path: Path, text: str) -> None:
        with path.open("a") as file:
            file.write(text)
        self.touch(path)

    def touch(self, path: Path) -> None:
        """The clock of file times has ticks that are longer than a step."""
        self.wall += 10_000_000
        os.utime(path, ns=(self.wall, self.wall))

    def real(self, name: str) -> Path:
        return Path(os.path.realpath(self.folder / name))

    def new_content(self, name: str) -> Content:
        streams = {str(self.folder / name)}
        if name == "app-2.log":
            streams.add(str(self.folder / "app.log"))  # its name is also that of a rotated app.log
        content = self.contents[name] = Content(name, streams)
        self.all.append(content)
        return content

    def new_lines(self, content: Content, count: int) -> str:
        lines = [f"line {self.number + index}" for index in range(count)]
        self.number += count
        content.lines += lines
        content.unread += lines
        return "".join(f"{line}\n" for line in lines)

    def see(self) -> None:
        """Let a running agent find the files, before something happens that would hide them from anyone."""
        if not self.is_stopped:
            self.reader.poll_for(2)  # a path that has not changed for long is checked this often
            for content in self.all:
                content.unread = []
            self.known |= self.contents.keys()

    def see_path(self, name: str) -> None:
        """What is rotated before the agent knows its path is not read.

        What replaced the content of a file that then moves on before the agent looks may not be read either.
        """
        content = self.contents[name]
        if name not in self.known or (content.is_rewritten and content.unread):
            self.see()
            content.is_old = self.is_stopped

    def lose_unread(self, name: str) -> None:
        content = self.contents[name]
        self.maybe.update(content.unread if not self.is_stopped else content.lines)

    def existing(self, data: st.DataObject) -> str | None:
        return data.draw(st.sampled_from(sorted(self.contents))) if self.contents else None

    @rule(name=st.sampled_from(NAMES), lines=st.integers(0, 3))
    def create(self, name: str, lines: int) -> None:
        if name in self.contents:
            return
        content = self.new_content(name)
        if name == "current.log":
            target = self.folder / "data" / f"release-{chr(97 + len(self.all) % 26)}{len(self.all)}x"
            self.write(target, self.banner + self.new_lines(content, lines))
            link = self.folder / ".link"
            link.symlink_to(target)
            link.rename(self.folder / name)
        else:
            self.write(self.folder / name, self.banner + self.new_lines(content, lines))

    @rule(data=st.data(), lines=st.integers(1, 40))
    def append(self, data: st.DataObject, lines: int) -> None:
        if name := self.existing(data):
            self.write(self.real(name), self.new_lines(self.contents[name], lines))

    def shift(self, name: str) -> None:
        for number in range(_BACKUPS, 0, -1):
            older = self.folder / f"{name}.{number}"
            if older.exists():
                older.rename(self.folder / f"{name}.{number + 1}")

    @rule(data=st.data(), lines=st.integers(0, 3), is_created=st.booleans(), late=st.integers(0, 2))
    def rotate(self, data: st.DataObject, lines: int, is_created: bool, late: int) -> None:
        name = self.existing(data)
        if name is None or name == "current.log":
            return
        self.see_path(name)
        content = self.contents.pop(name)
        self.shift(name)
        (self.folder / name).rename(self.folder / f"{name}.1")
        if late:  # by a writer that has not opened the new file yet
            self.write(self.folder / f"{name}.1", self.new_lines(content, late))
        if is_created:
            self.create(name, lines)

    @rule(data=st.data(), lines=st.integers(0, 3))
    def copytruncate(self, data: st.DataObject, lines: int) -> None:
        name = self.existing(data)
        if name is None or name == "current.log":
            return
        self.see_path(name)
        self.shift(name)
        path = self.folder / name
        shutil.copyfile(path, self.folder / f"{name}.1")
        self.touch(self.folder / f"{name}.1")
        os.truncate(path, 0)
        self.touch(path)
        content = self.new_content(name)
        content.is_rewritten = True
        self.write(path, self.banner + self.new_lines(content, lines))

    @rule(data=st.data(), lines=st.integers(0, 3))
    def replace(self, data: st.DataObject, lines: int) -> None:
        name = self.existing(data)
        if name is None or name == "current.log":
            return
        self.see()
        copy = self.folder / ".t"
        shutil.copyfile(self.folder / name, copy)
        self.write(copy, self.new_lines(self.contents[name], lines))
        copy.rename(self.folder / name)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = self.existing(data)
        if name is None:
            return
        self.see()
        self.lose_unread(name)
        self.known.discard(name)
        del self.contents[name]
        self.real(name).unlink()
        (self.folder / name).unlink(missing_ok=True)

    @rule(lines=st.integers(0, 3))
    def switch_link(self, lines: int) -> None:
        if "current.log" not in self.contents:
            return
        self.see()
        self.lose_unread("current.log")
        del self.contents["current.log"]
        self.create("current.log", lines)

    @rule(data=st.data())
    def hard_link(self, data: st.DataObject) -> None:
        """A second name for the content, which the pattern does not match."""
        name = self.existing(data)
        if name is not None:
            os.link(self.real(name), self.folder / f"kept {self.links}")
            self.links += 1

    # What happens to the agent.

    @precondition(lambda self: not self.is_stopped)
    @rule(seconds=st.sampled_from([0.25, 1.0, 6.0, 30.0]))
    def poll(self, seconds: float) -> None:
        self.reader.poll_for(seconds)
        self.see()

    @precondition(lambda self: not self.is_stopped)
    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:
        self.see()
        if kill:
            self.reader.read_some_and_die()
        else:
            self.reader.restart()

    @precondition(lambda self: not self.is_stopped)
    @rule()
    def stop(self) -> None:
        self.see()
        self.reader.tail.close()
        self.is_stopped = True

    @precondition(lambda self: self.is_stopped)
    @rule()
    def start_again(self) -> None:
        self.reader.restart()
        self.is_stopped = False
        self.see()

    @rule(seconds=st.sampled_from([60, 3600, 86400]))
    def jump(self, seconds: int) -> None:
        self.reader.clock.now += seconds
        self.wall += seconds * 10**9

    def teardown(self) -> None:
        if not hasattr(self, "reader"):
            return
        try:
            self.check()
        finally:
            self.reader.tail.close()
            self.temporary.cleanup()

    def check(self) -> None:
        if self.is_stopped:
            self.start_again()
        for name in self.contents:  # so that no two are equal
            self.write(self.real(name), self.new_lines(self.contents[name], 1))
        self.reader.poll_for(80)
        found: dict[str, list[str]] = {}
        for path, data in self.reader.kept:
            if data.startswith(b"line"):
                found.setdefault(data.decode(), []).append(path)
        for content in self.all:
            is_followed = content.name in self.names
            for line in content.lines:
                paths = found.pop(line, [])
                if not is_followed:
                    assert not paths, f"{line} of {content.streams} came as {paths}"
                    continue
                assert len(paths) <= 1, f"{line} of {content.streams} came {Counter(paths)}"
                assert paths or line in self.maybe or content.is_old, f"{line} of {content.streams} did not come"
                assert not paths or content.is_old or paths[0] in content.streams, (
                    f"{line} of {content.streams} came as {paths}"
                )
        assert not found


RotatedFiles.TestCase.settings = settings(
    max_examples=3000 if _IS_SOAK else 40,
    stateful_step_count=60 if _IS_SOAK else 25,
    derandomize=not _IS_SOAK,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestEachLineIsReadOnceInItsStream = RotatedFiles.TestCase
