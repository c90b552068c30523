"""Compared with a real node_exporter: all its metric names with the same types, labels and values."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from comparison import (
    Exposed,
    Labels,
    Tolerance,
    as_release,
    collected_since,
    differences,
    different_values,
    exposed,
    filled_by_the_peer_alone,
    missing_series,
    named,
    selectors,
)
from peers.refresh import table
from services import Program, agent, node_exporter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Collectors that are off by default in node_exporter and on in Deckwatch.
ALSO_ON = ("processes", "interrupts", "tcpstat", "meminfo_numa", "systemd")

#: Metrics about the peer's process, not the host.
OF_THE_PEER = ("node_exporter_build_info", "go_", "promhttp_", "node_scrape_collector_")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Program]]:
    folder = tmp_path_factory.mktemp("both")
    textfiles = folder / "textfiles"
    textfiles.mkdir()
    (textfiles / "backup.prom").write_text(
        "# HELP backup_done_timestamp_seconds When.\n"
        "# TYPE backup_done_timestamp_seconds gauge\n"
        "backup_done_timestamp_seconds 1\n"
    )
    flags = [f"--collector.{name}" for name in ALSO_ON] + [f"--collector.textfile.directory={textfiles}"]
    config = f"interval: 1s\nexporters: {{system: {{textfile: {{directories: ['{textfiles}']}}}}}}\n"
    with node_exporter(folder, *flags) as peer, agent(folder, config) as ours:
        yield peer, ours


MAIN = table("node_exporter")
BEGINNINGS = ("node_", "process_", "backup_")


def _ours(program: Program, peer: Exposed) -> Exposed:
    return as_release(exposed(program.metrics()), peer, MAIN)


def test_every_metric_of_node_exporter_is_exported_with_its_type_and_label_names(both: tuple[Program, Program]) -> None:
    peer, ours = both
    theirs = exposed(peer.metrics())
    problems = differences(theirs, _ours(ours, theirs), named(BEGINNINGS, OF_THE_PEER))
    assert not problems, "\n".join(problems)


def test_every_series_of_node_exporter_is_exported(both: tuple[Program, Program]) -> None:
    peer, ours = both
    theirs = exposed(peer.metrics())
    # Series can appear and disappear between two scrapes. In these tests, only thread states do.
    moving = ("node_processes_state", "node_processes_threads_state", "node_tcp_connection_states")
    missing = missing_series(theirs, _ours(ours, theirs), named(BEGINNINGS, (*OF_THE_PEER, *moving)))
    assert not missing, "\n".join(missing)


#: Values that go up and down: they may have differed between two equal readings.
RESTLESS = dict.fromkeys(
    ("node_memory_", "node_procs_", "node_processes_", "node_sockstat_", "node_filefd_", "node_tcp_",
     "node_disk_io_now", "node_filesystem_", "node_timex_", "node_netstat_Tcp_CurrEstab", "node_textfile_mtime"),
    Tolerance(0.05, 20),
)  # fmt: skip


def test_constant_values_equal_those_of_node_exporter(both: tuple[Program, Program]) -> None:
    """Compare several times: a value that changed and returned differs once, a wrong one differs each time."""
    compared, different = _compared(*both)
    for _ in range(2):
        if different:
            _, again = _compared(*both)
            different = {key: text for key, text in again.items() if key in different}
    assert compared > 350
    assert not different, "\n".join(different.values())


def _compared(peer: Program, ours: Program) -> tuple[int, dict[tuple[str, Labels], str]]:
    before = exposed(peer.metrics())
    mine = collected_since(time.time(), lambda: _ours(ours, before))
    after = exposed(peer.metrics())
    # `process_` metrics describe each exporter's own process.
    return different_values(before, after, mine, named(("node_", "backup_"), OF_THE_PEER), RESTLESS)


def test_every_dashboard_selector_with_node_exporter_data_has_our_data(
    both: tuple[Program, Program], tmp_path: Path
) -> None:
    filled, missing = filled_by_the_peer_alone(tmp_path, *both, selectors("host.txt"))

    assert len(filled) > 150, "the peer itself fills hardly any: the comparison says nothing"
    assert not missing, "\n".join(missing)
