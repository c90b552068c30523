"""On replicated databases that two agents monitor, each fault sends its alert once, and a healthy stack sends none."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from services import until

from . import faults
from .matrix import AS_A_WHOLE, BY_TARGET, EXPLAINED, Matrix, live_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
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


@pytest.mark.skipif("DECKWATCH_SOAK" not in os.environ, reason="make soak runs it")
def test_a_full_sync_of_a_replica_sends_nothing(matrix: Matrix) -> None:
    start = len(matrix.hook.messages)
    with faults.redis_full_sync(matrix):
        pass
    matrix.pass_minutes(1)
    syncing = 'redis_connected_slave_lag_seconds{slave_state="wait_bgsave"}'
    seen = matrix.query(f"/api/v1/query?query={quote(f'last_over_time({syncing}[1m])')}")["result"]
    assert {it["metric"]["job"] for it in seen} == {BY_TARGET, AS_A_WHOLE}, "both agents saw the sync"
    until(matrix.is_quiet, what="the end of all alerts")
    assert not matrix.notifications(start)


PAGE = ("pager", "database")
WARNING = ("database",)
BOTH = (BY_TARGET, AS_A_WHOLE)

#: Each fault, its only alert and what that is about, the receivers, the jobs that report it, and for how many minutes
#: it lasts after the alert.
FAULTS = [
    (faults.redis_down, "RedisDown", "cache", PAGE, BOTH, 6),
    (faults.redis_replica_paused, "RedisDown", "cache-replica", PAGE, BOTH, 8),
    (faults.redis_full, "RedisMemoryHigh", "cache", WARNING, BOTH, 1),
    (faults.standby_paused, "PostgresDown", "main-standby", PAGE, BOTH, 8),
    (faults.archive_command_hangs, "PostgresArchiverStalled", "main", PAGE, BOTH, 1),
    (faults.max_connections_reached, "PostgresConnectionsExhausted", "main", PAGE, BOTH, 6),
    (faults.pool_exhausted, "PgbouncerClientsWaiting", "pool", WARNING, BOTH, 1),
    (faults.pgbouncer_down, "PgbouncerDown", "pool", PAGE, BOTH, 6),
    (faults.agent_by_target_killed, "DeckwatchDown", "agent", ("pager", "platform"), (BY_TARGET,), 6),
    (faults.agent_as_a_whole_killed, "DeckwatchDown", "agent", ("pager", "platform"), (AS_A_WHOLE,), 6),
    (faults.redis_crash_loop, "RedisRestarting", "cache", PAGE, BOTH, 1),
    (faults.primary_gone, "PostgresDown", "main", PAGE, BOTH, 6),
]
#: The others take ten minutes in all: `make soak` runs them.
IN_EACH_TEST_RUN = (faults.redis_down, faults.pgbouncer_down, faults.agent_by_target_killed)
#: What the daily mail says after the repair. The information lasts an hour, so these faults are the last ones.
AFTERWARDS: dict[Callable[[Matrix], AbstractContextManager[None]], set[str]] = {
    faults.primary_gone: {"PostgresRestarted"},
}


@pytest.mark.parametrize(
    ("fault", "alert", "about", "receivers", "jobs", "minutes"),
    [
        pytest.param(*it, id=it[0].__name__)
        for it in FAULTS
        if "DECKWATCH_SOAK" in os.environ or it[0] in IN_EACH_TEST_RUN
    ],
)
def test_a_fault_sends_its_alert_once_and_no_other(
    matrix: Matrix,
    fault: Callable[[Matrix], AbstractContextManager[None]],
    alert: str,
    about: str,
    receivers: tuple[str, ...],
    jobs: tuple[str, ...],
    minutes: int,
) -> None:
    messages, notices = len(matrix.hook.messages), len(matrix.hook.notices)
    expected = Counter((job, alert, about, receiver) for job in jobs for receiver in receivers)
    with fault(matrix):
        until(lambda: expected.keys() <= matrix.notifications(messages).keys(), what=f"{alert} at its receivers")
        matrix.pass_minutes(minutes)
    information = AFTERWARDS.get(fault, set())
    until(lambda: matrix.alerts("pending", "firing") <= information, 600, "the end of all alerts")
    until(lambda: {(job, alert) for job in jobs} <= matrix.resolved(notices), what="the resolution of the alerts")
    expected += Counter((job, name, about, "digest") for job in jobs for name in information)
    until(lambda: expected.keys() <= matrix.notifications(messages).keys(), what="the daily mail")
    sent, listed = matrix.notifications(messages), "\n".join(map(str, matrix.hook.messages[messages:]))
    assert sent.keys() == expected.keys(), listed
    if "DECKWATCH_SOAK" in os.environ:  # a busy machine misses scrapes, and an alert may end and be sent again
        assert sent == expected, listed
    assert not matrix.failing_rules()


@pytest.mark.skipif("DECKWATCH_SOAK" not in os.environ, reason="takes twenty minutes; make soak runs it")
@pytest.mark.timeout(2400)
def test_the_shipped_rules_are_quiet_for_ten_minutes(tmp_path: Path) -> None:
    with live_matrix(tmp_path, factor=1) as matrix:
        check_quiet(matrix, 10)
        assert not matrix.failing_rules()
