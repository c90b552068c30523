"""Beside the real node_exporter: every name it has we have, with its type, its labels and its value."""

from __future__ import annotations

import json
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services import Program, agent, fetch, node_exporter, prometheus, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SELECTORS = [
    line
    for line in (Path(__file__).parent / "selectors" / "host.txt").read_text().splitlines()
    if line[:1] not in ("#", "")
]

#: Collectors that node_exporter has off and Deckwatch on.
ALSO_ON = ("processes", "interrupts", "tcpstat", "meminfo_numa", "systemd")

#: About the peer's own program, not about the host.
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


Families: TypeAlias = "dict[str, tuple[str, dict[tuple[tuple[str, str], ...], float]]]"


def _families(exposition: str) -> Families:
    """By sample name: its type, and the value by label set."""
    found: Families = {}
    declared = {line.split()[2]: line.split()[3] for line in exposition.splitlines() if line.startswith("# TYPE ")}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            name = sample.name if sample.name in declared else sample.name.removesuffix("_total")
            values = found.setdefault(name, (declared.get(name, family.type), {}))[1]
            values[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def _of_the_host(name: str) -> bool:
    return name.startswith(("node_", "process_", "backup_")) and not name.startswith(OF_THE_PEER)


def test_every_metric_of_node_exporter_is_there_with_its_type_and_label_names(both: tuple[Program, Program]) -> None:
    peer, ours = (_families(program.metrics()) for program in both)
    problems = []
    for name, (kind, values) in sorted(peer.items()):
        if not _of_the_host(name):
            continue
        if name not in ours:
            problems.append(f"missing: {name}")
            continue
        if ours[name][0] != kind:
            problems.append(f"type of {name}: {ours[name][0]}, not {kind}")
        label_names = {tuple(label for label, _ in labels) for labels in values}
        our_label_names = {tuple(label for label, _ in labels) for labels in ours[name][1]}
        if label_names != our_label_names:
            problems.append(f"labels of {name}: {sorted(our_label_names)}, not {sorted(label_names)}")
    assert not problems, "\n".join(problems)


def test_every_series_of_node_exporter_is_there(both: tuple[Program, Program]) -> None:
    peer, ours = (_families(program.metrics()) for program in both)
    # Interfaces, processes and the like may come and go between two scrapes; here none does, but states of threads do.
    moving = ("node_processes_state", "node_processes_threads_state", "node_tcp_connection_states")
    missing = [
        f"{name}{dict(labels)}"
        for name, (_, values) in sorted(peer.items())
        if _of_the_host(name) and not name.startswith(moving)
        for labels in values
        if labels not in ours.get(name, ("", {}))[1]
    ]
    assert not missing, "\n".join(missing)


#: Figures that go up and down: equal before and after says nothing of what was between.
RESTLESS = (
    "node_memory_", "node_procs_", "node_processes_", "node_sockstat_", "node_filefd_", "node_tcp_", "node_disk_io_now",
    "node_filesystem_", "node_timex_", "node_netstat_Tcp_CurrEstab", "node_textfile_mtime",
)  # fmt: skip


def test_what_does_not_move_has_the_value_that_node_exporter_gives(both: tuple[Program, Program]) -> None:
    """A figure that moved and came back between two looks is different once, one that is wrong each time."""
    compared, different = _compared(*both)
    for _ in range(2):
        if different:
            _, again = _compared(*both)
            different = {key: text for key, text in again.items() if key in different}
    assert compared > 350
    assert not different, "\n".join(different.values())


def _compared(peer: Program, ours: Program) -> tuple[int, dict[tuple[str, object], str]]:
    """How many series the peer gives the same value twice, with ours read between, and those that differ."""
    before = _families(peer.metrics())
    began = time.time()
    fresh = until(lambda: _collected_since(began, ours), what="a run of every collector")
    after = _families(peer.metrics())
    compared, different = 0, dict[tuple[str, object], str]()
    for name, (_, values) in sorted(before.items()):
        if not _of_the_host(name) or name.startswith("process_"):
            continue  # each tells of its own process
        for labels, value in values.items():
            mine = fresh.get(name, ("", {}))[1].get(labels)
            if mine is None or after.get(name, ("", {}))[1].get(labels) != value:
                continue  # it moves, or the tests above tell
            compared += 1
            tolerance = 0.05 if name.startswith(RESTLESS) else 1e-9
            if mine != pytest.approx(value, rel=tolerance, abs=20 if name.startswith(RESTLESS) else 1e-9):
                different[name, labels] = f"{name}{dict(labels)}: {mine}, not {value}"
    return compared, different


def _collected_since(moment: float, program: Program) -> Families:
    """What is exposed, once every collector has run since then; nothing before."""
    families = _families(program.metrics())
    ends = families["deckwatch_collector_last_success_timestamp_seconds"][1].values()
    return families if min(ends) > moment else {}


def test_everything_the_dashboards_select_has_data_wherever_node_exporter_has_it(
    both: tuple[Program, Program], tmp_path: Path
) -> None:
    peer, ours = both
    with prometheus(tmp_path, {"peer": peer, "deckwatch": ours}) as server:
        until(
            lambda: all(_result(server, f'up{{job="{job}"}} == 1') for job in ("peer", "deckwatch")), what="two scrapes"
        )
        missing = until_none(
            lambda: [
                selector
                for selector in SELECTORS
                if _result(server, _of_job(selector, "peer")) and not _result(server, _of_job(selector, "deckwatch"))
            ]
        )
        filled = sum(bool(_result(server, _of_job(selector, "peer"))) for selector in SELECTORS)
        targets = json.loads(fetch(server.url + "/api/v1/targets")[1])["data"]["activeTargets"]

    assert filled > 150, "the peer itself fills hardly any: the comparison says nothing"
    assert not missing, "\n".join(missing)
    assert [target["lastError"] for target in targets] == ["", ""]


def until_none(find: Callable[[], list[str]]) -> list[str]:
    """What is still found at the deadline: a state may have its first series a scrape later here than there."""
    deadline = time.monotonic() + 10
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def _of_job(selector: str, job: str) -> str:
    name, brace, rest = selector.partition("{")
    return f'{name}{{job="{job}",{rest}' if brace else f'{name}{{job="{job}"}}'


def _result(server: Program, query: str) -> list[object]:
    status, body = fetch(f"{server.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    assert status == 200, body
    result: list[object] = json.loads(body)["data"]["result"]
    return result
