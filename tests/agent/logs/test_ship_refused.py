"""What Loki refuses for a while, or always: one stream does not stop the others, and nothing is asked in a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.logs.shipping import Shipping, shipping
from loki import Fault, assert_exactly_once, loki
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deckwatch.logs.entry import Labels


@pytest.fixture
def ship(tmp_path: Path) -> Iterator[Shipping]:
    with shipping(tmp_path) as made:
        yield made


def of(name: str) -> Labels:
    return (("job", name),)


@pytest.mark.parametrize("size", [10, 100_000], ids=["small", "alone"])
def test_streams_that_loki_has_go_on_while_new_ones_wait(ship: Shipping, size: int) -> None:
    with loki(streams=3) as double:
        old = [ship.add([f"{name} {n}" for n in range(3)], of(name)) for name in "abc"]
        ship.start(double.url)
        until(lambda: ship.done)
        new: list[list[str]] = []
        for round_ in range(5):
            for name in ("d", "a", "e", "b", "c"):
                lines = ship.add([f"{name} {round_} {n} {'x' * size}" for n in range(3)], of(name))
                (new if name in "de" else old).append(lines)
            expected = [line for lines in old for line in lines]
            until(lambda expected=expected: len(double.stored_lines) == len(expected))  # type: ignore[misc]  # a default
            assert_exactly_once(expected, double.stored_lines)
        assert ship.counts.failing_since is not None
        assert "active stream limit exceeded" in ship.counts.failure
        assert not ship.done
        object.__setattr__(double.limits, "streams", 10)
        until(lambda: ship.done)
        assert_exactly_once([line for lines in (*old, *new) for line in lines], double.stored_lines)
        assert [line for entries in double.stored.values() for _, line, _ in entries if line.startswith("d")] == [
            line for lines in new for line in lines if line.startswith("d")
        ]
        until(lambda: ship.counts.failing_since is None)
    assert ship.set_aside() == []


def test_new_streams_that_wait_are_sent_after_a_restart(ship: Shipping) -> None:
    with loki(streams=1) as double:
        lines = ship.add(["a"], of("a")) + ship.add(["b"], of("b"))
        ship.start(double.url)
        until(lambda: ship.counts.failing_since is not None)
        until(lambda: "a" in double.stored_lines)
        ship.halt()
        ship.reader.rewind()  # as opening the spool does
        object.__setattr__(double.limits, "streams", 10)
        ship.start(double.url)
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)


def test_many_new_streams_cost_few_requests_while_they_wait(ship: Shipping) -> None:
    with loki(streams=5) as double:
        lines = []
        for number in range(300):
            lines += ship.add([f"line {number}"], of(f"stream-{number}"))
        ship.start(double.url, max_backoff="60s")
        until(lambda: len(double.stored_lines) == 5)
        until(lambda: ship.counts.failing_since is not None)
        requests = len(double.requests)
        assert requests < 50
        object.__setattr__(double.limits, "streams", 1000)
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)


def test_a_destination_that_finds_everything_too_large_is_asked_less_and_less(ship: Shipping) -> None:
    with loki() as double:
        double.fault = Fault("status", 413, "request entity too large")
        lines = ship.add([f"line {n}" for n in range(2000)])
        ship.start(double.url, max_backoff="1s")
        until(lambda: ship.counts.failing_since is not None)
        assert len(double.requests) < 40
        assert "413" in ship.counts.failure
        until(lambda: ship.counts.retries >= 4)
        assert len(double.requests) < 150
        double.fault = None
        ship.halt()
        ship.reader.rewind()  # as opening the spool does
        ship.start(double.url)
        until(lambda: ship.done)
        assert double.stored_lines == lines
    assert ship.set_aside() == []
