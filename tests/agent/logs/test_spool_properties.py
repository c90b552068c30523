"""The spool behaves like a list under random appends, acknowledgements, restarts and truncations."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from deckwatch.logs.spool.segment import HEAD_BYTES, HEADER
from deckwatch.logs.spool.spool import Cursor, Reader, Spool, SpoolFull

NAMES = ("one", "two")


class SpoolAndList(RuleBasedStateMachine):
    """`kept` are the payloads that the spool must return; each reader has its acknowledged index in it."""

    @initialize(
        when_full=st.sampled_from(["drop_oldest", "drop_newest", "block"]),
        max_bytes=st.integers(100, 3000),
        segment_bytes=st.integers(1, 1000),
    )
    def start(self, when_full: str, max_bytes: int, segment_bytes: int) -> None:
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.when_full, self.max_bytes, self.segment_bytes = when_full, max_bytes, segment_bytes
        self.kept: list[tuple[Cursor, bytes]] = []
        self.acknowledged = dict.fromkeys(NAMES, Cursor(0, 0))
        self.released = Cursor(0, 0)
        self.last = Cursor(0, 0)
        self.number = 0
        self.open()

    def open(self) -> None:
        self.dropped: list[bytes] = []
        self.spool = Spool(
            self.folder, self.max_bytes, self.when_full, self.segment_bytes, lambda data, _: self.dropped.append(data)
        )
        self.readers: dict[str, Reader] = {name: self.spool.reader(name) for name in NAMES}
        self.cursor = dict(self.acknowledged)
        self.released = Cursor(0, 0)
        # Payloads dropped after the slowest reader read them, and those of them reported lost since.
        self.in_flight: dict[str, list[tuple[Cursor, bytes]]] = {name: [] for name in NAMES}
        self.lost: list[bytes] = []

    def pending(self, after: Cursor) -> list[tuple[Cursor, bytes]]:
        return [record for record in self.kept if record[0] > after]

    def on_disk(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.log"))

    def gone(self) -> None:
        """Remove the payloads from the model that the spool deleted after all readers finished them."""
        left = list(self.spool.records())
        deleted = self.kept[: len(self.kept) - len(left)]
        done = min(*self.acknowledged.values(), self.released)
        assert all(place <= done for place, _ in deleted)
        self.kept = self.kept[len(deleted) :]

    @rule(size=st.integers(0, 400), fill=st.binary(max_size=4))
    def append(self, size: int, fill: bytes) -> None:
        payload = (b"%d " % self.number + fill).ljust(size, b"\xfe\xd1"[:1])
        self.dropped.clear()
        slowest, handed_out = min(self.acknowledged.values()), min(self.cursor.values())
        try:
            place = self.spool.append(payload)
        except SpoolFull:
            too_large = len(HEADER) + HEAD_BYTES + len(payload) > self.max_bytes
            assert too_large or self.when_full != "drop_oldest"
            assert self.dropped == []
            self.gone()
            return
        self.number += 1
        assert place > self.last
        self.last = place
        left = len(list(self.spool.records())) - 1
        deleted = self.kept[: len(self.kept) - left]
        self.kept = [*self.kept[len(deleted) :], (place, payload)]
        assert self.dropped == [data for at, data in deleted if at > max(slowest, handed_out)]
        behind = min(NAMES, key=lambda name: self.acknowledged[name])
        self.in_flight[behind] += [(at, data) for at, data in deleted if slowest < at <= handed_out]
        if self.when_full != "drop_oldest":
            assert self.dropped == []

    @rule(name=st.sampled_from(NAMES), max_bytes=st.integers(0, 1000), share=st.floats(0, 1))
    def read_and_acknowledge(self, name: str, max_bytes: int, share: float) -> None:
        read = self.readers[name].read(max_bytes)
        expected = self.pending(self.cursor[name])
        assert read == expected[: len(read)]
        assert bool(read) == bool(expected)
        size = sum(len(data) for _, data in read)
        assert len(read) <= 1 or size <= max_bytes
        assert len(read) == len(expected) or size + len(expected[len(read)][1]) > max_bytes
        if read:
            self.cursor[name] = read[-1][0]
            index = int(share * len(read)) - 1
            if index >= 0:
                self.readers[name].acknowledge(read[index][0])
                self.acknowledged[name] = max(self.acknowledged[name], read[index][0])
                self.in_flight[name] = [one for one in self.in_flight[name] if one[0] > read[index][0]]
                self.gone()

    @rule(name=st.sampled_from(NAMES))
    def rewind(self, name: str) -> None:
        self.readers[name].rewind()
        self.cursor[name] = self.acknowledged[name]
        self.lost += [data for _, data in self.in_flight[name]]
        self.in_flight[name] = []

    @rule(share=st.floats(0, 1))
    def release(self, share: float) -> None:
        if self.kept:
            self.released = max(self.released, self.kept[int(share * (len(self.kept) - 1))][0])
            self.spool.release(self.released)
            self.gone()

    @rule()
    def sync(self) -> None:
        self.dropped.clear()
        self.spool.sync()
        assert self.dropped == self.lost
        self.lost = []

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.open()

    @rule(share=st.floats(0, 1))
    def tear(self, share: float) -> None:
        """Damage unsynced data as a power failure may."""
        self.spool.close()
        newest = max(self.folder.glob("*.log"), default=None)
        if newest is not None:
            number, size = int(newest.stem), int(share * newest.stat().st_size)
            os.truncate(newest, size)
            self.kept = [record for record in self.kept if record[0] <= Cursor(number, size)]
            end = self.kept[-1][0] if self.kept else Cursor(0, 0)
            for name, place in self.acknowledged.items():
                if self.kept and place > end:
                    self.acknowledged[name] = Cursor(0, 0)
        self.open()

    @invariant()
    def it_holds_what_the_list_holds(self) -> None:
        assert list(self.spool.records()) == self.kept
        assert self.spool.damaged == 0
        if self.kept:
            assert self.spool.end == self.kept[-1][0]

    @invariant()
    def it_has_the_size_that_it_says_and_may_have(self) -> None:
        assert self.spool.disk_bytes == self.on_disk() <= self.max_bytes
        pending = {
            name: sum(HEAD_BYTES + len(data) for _, data in self.pending(place))
            for name, place in self.acknowledged.items()
        }
        assert {name: reader.pending_bytes for name, reader in self.readers.items()} == pending
        assert self.spool.bytes == max(pending.values())

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
            self.temporary.cleanup()


SpoolAndList.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_the_spool_is_a_list = SpoolAndList.TestCase
