"""Beside the real node_exporter: every name it has we have, with its type, its labels and its value."""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from services import Program, agent, fetch, node_exporter, prometheus, until

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        "# HELP backup_done_timestamp_seconds When.\n# TYPE backup_done_timestamp_seconds gauge\nbackup_done_timestamp_seconds 1\n"
    )
    flags = [f"--collector.{name}" for name in ALSO_ON] + [f"--collector.textfile.directory={textfiles}"]
    config = f"exporters: {{system: {{textfile: {{directories: ['{textfiles}']}}}}}}\n"
    with node_exporter(folder, *flags) as peer, agent(folder, config) as ours:
        yield peer, ours


def _families(exposition: str) -> dict[str, tuple[str, dict[tuple[tuple[str, str], ...], float]]]:
    """By sample name: its type, and the value by label set."""
    found: dict[str, tuple[str, dict[tuple[tuple[str, str], ...], float]]] = {}
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


def test_what_does_not_move_has_the_value_that_node_exporter_gives(both: tuple[Program, Program]) -> None:
    peer_before = _families(both[0].metrics())
    ours = _families(both[1].metrics())
    peer_after = _families(both[0].metrics())
    compared, problems = 0, []
    for name, (_, values) in sorted(peer_before.items()):
        if not _of_the_host(name) or name.startswith(("process_", "node_textfile_mtime")):
            continue
        for labels, value in values.items():
            still = peer_after.get(name, ("", {}))[1].get(labels)
            mine = ours.get(name, ("", {}))[1].get(labels)
            if still != value or mine is None:
                continue  # it moves, or the tests above tell
            compared += 1
            if mine != pytest.approx(value, rel=0.02, abs=1e-9) and not _moves_slowly(name):
                problems.append(f"{name}{dict(labels)}: {mine}, not {value}")
    assert compared > 500
    assert not problems, "\n".join(problems)


def _moves_slowly(name: str) -> bool:
    """What stood still between two scrapes a few milliseconds apart, but not since our last run."""
    return name.startswith(
        (
            "node_cpu_seconds", "node_cpu_guest", "node_softnet", "node_schedstat", "node_interrupts", "node_disk_", "node_netstat",
            "node_network_", "node_vmstat", "node_memory_", "node_load", "node_pressure", "node_processes", "node_procs", "node_sockstat",
            "node_filefd", "node_entropy_available", "node_context", "node_forks", "node_intr", "node_tcp", "node_udp", "node_nf", "node_timex",
            "node_filesystem", "node_arp",
        )
    )  # fmt: skip


def test_everything_the_dashboards_select_has_data_wherever_node_exporter_has_it(
    both: tuple[Program, Program], tmp_path: Path
) -> None:
    peer, ours = both
    with prometheus(tmp_path, {"peer": peer, "deckwatch": ours}) as server:
        until(
            lambda: all(_result(server, f'up{{job="{job}"}} == 1') for job in ("peer", "deckwatch")), what="two scrapes"
        )
        missing = [
            selector
            for selector in SELECTORS
            if _result(server, _of_job(selector, "peer")) and not _result(server, _of_job(selector, "deckwatch"))
        ]
        filled = sum(bool(_result(server, _of_job(selector, "peer"))) for selector in SELECTORS)
        targets = json.loads(fetch(server.url + "/api/v1/targets")[1])["data"]["activeTargets"]

    assert filled > 150, "the peer itself fills hardly any: the comparison says nothing"
    assert not missing, "\n".join(missing)
    assert [target["lastError"] for target in targets] == ["", ""]


def _of_job(selector: str, job: str) -> str:
    name, brace, rest = selector.partition("{")
    return f'{name}{{job="{job}",{rest}' if brace else f'{name}{{job="{job}"}}'


def _result(server: Program, query: str) -> list[object]:
    status, body = fetch(f"{server.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    assert status == 200, body
    result: list[object] = json.loads(body)["data"]["result"]
    return result
