"""Scrapes cannot make the agent cache an unlimited amount of responses."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from deckwatch.collection import board as board_module
from deckwatch.collection.board import Board, Selection
from deckwatch.collection.run import NamedCollector, SeriesBudget, run_once
from deckwatch.metrics.declaration import Gauge, Sample
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

VALUES = Gauge("test_values", "Values.", ["name"])


class Values:
    def collect(self) -> Iterable[Sample]:
        return [VALUES(1, name=f"{number:0100}") for number in range(100)]


def board_with(names: Iterable[str]) -> Board:
    board = Board()
    for name in names:
        named = NamedCollector(f"test.{name}", Values(), name)
        board.add(named, "test", "", 3600)
        board.post(run_once(named, Encoder(), SeriesBudget(1000)), 3600)
    return board


def test_collector_names_in_any_order_share_one_cached_response() -> None:
    board = board_with("abcd")
    bodies = {
        board.parts(Selection(names), openmetrics=False, compress=False)[0]
        for order in itertools.permutations("abcd")
        for names in (order, (*order, order[0]), tuple(f"test.{name}" for name in order))
    }
    board.parts(Selection(("test",)), openmetrics=False, compress=False)
    assert len(bodies) == 1
    assert len(board._answers) == 1


def test_responses_for_selected_collectors_all_collectors_and_a_target_are_distinct() -> None:
    board = board_with("ab")
    asked = (Selection(), Selection(("a",)), Selection(("b",)), Selection(target="a"), Selection(("a",), "a"))
    assert len({board.parts(selection, openmetrics=False, compress=False)[0] for selection in asked}) == 4
    assert len(board._answers) == 5


def test_cached_responses_are_limited_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"c{number}" for number in range(8)]
    board = board_with(names)
    monkeypatch.setattr(board_module, "_MAX_CACHED_BYTES", 200_000)
    for chosen in itertools.combinations(names, 4):
        body, _ = board.parts(Selection(chosen), openmetrics=False, compress=False)
        assert 40_000 < len(body) < 200_000
        assert sum(len(answer.body) for answer in board._answers.values()) <= 200_000
    monkeypatch.setattr(board_module, "_MAX_CACHED_BYTES", 1)
    board.parts(Selection(), openmetrics=False, compress=False)
    assert len(board._answers) == 1  # the full response to a scraper is always cached, however large
