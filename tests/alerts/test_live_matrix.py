"""On replicated databases that two agents monitor, each fault sends its alert once, and a healthy stack sends none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from services import until

from .matrix import AS_A_WHOLE, BY_TARGET, EXPLAINED, Matrix, live_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with live_matrix(tmp_path_factory.mktemp("matrix")) as running:
        yield running


def check_quiet(matrix: Matrix, minutes: int) -> None:
    """Check that no alert fires or is pending without an explanation for this time, and that nothing is sent."""
    start = len(matrix.hook.messages)
    seen: set[str] = set()
    for _ in range(minutes * 4):
        seen |= matrix.alerts("pending", "firing")
        matrix.pass_minutes(1 / 4)
    assert seen <= set(EXPLAINED)
    assert not matrix.notifications(start)


def test_both_ways_of_scraping_see_all_servers(matrix: Matrix) -> None:
    def servers(job: str) -> dict[str, str]:
        up = " or ".join(f'{name}{{job="{job}"}} == 1' for name in ("redis_up", "pg_up", "pgbouncer_up"))
        found = [it["metric"] for it in matrix.query(f"/api/v1/query?query={quote(up)}")["result"]]
        return {labels.get("target", labels["instance"]): labels["instance"] for labels in found}

    names = {"cache", "cache-replica", "main", "main-standby", "pool"}
    until(lambda: set(servers(BY_TARGET)) == names, what="the targets of /sd")
    until(lambda: set(servers(AS_A_WHOLE)) == names, what="the targets of the whole scrape")
    assert set(servers(BY_TARGET).values()) == names
    assert len(set(servers(AS_A_WHOLE).values())) == 1


def test_no_alert_is_pending_or_sent_on_the_healthy_stack(matrix: Matrix) -> None:
    check_quiet(matrix, 15)
    assert not matrix.failing_rules()


@pytest.mark.skipif("DECKWATCH_SOAK" not in os.environ, reason="takes twenty minutes; make soak runs it")
def test_the_shipped_rules_are_quiet_for_ten_minutes(tmp_path: Path) -> None:
    with live_matrix(tmp_path, factor=1) as matrix:
        check_quiet(matrix, 10)
        assert not matrix.failing_rules()
