"""CPU time, counters that the kernel decreases, and CPU information from sysfs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.cpu import (
    MODES,
    Cpu,
    CpuSettings,
    parse_cpu_list,
    parse_cpuinfo,
    parse_stat,
    without_small_decreases,
)
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import FIXTURES, by_series, host_paths
from .support import malformed as reported

NUMA = FIXTURES / "numa"
TICK = 1 / os.sysconf("SC_CLK_TCK")
TICKS = st.lists(st.integers(0, 2**50), min_size=10, max_size=10)


def only(name: str, found: dict[str, float]) -> dict[str, float]:
    return {series.removeprefix(name): value for series, value in found.items() if series.startswith(name + "{")}


def copied(tree: Path) -> Path:
    return Path(shutil.copytree(NUMA, tree / "numa"))


def test_cpu_time_is_exported_by_cpu_and_mode_in_seconds() -> None:
    found = only("node_cpu_seconds_total", by_series(Cpu(host_paths(NUMA)).collect()))

    ticks = (260000, 500, 80000, 10300000, 5000, 0, 2000, 200)
    assert {series: value for series, value in found.items() if 'cpu="0"' in series} == {
        f'{{cpu="0",mode="{mode}"}}': pytest.approx(n * TICK) for mode, n in zip(MODES, ticks, strict=True)
    }
    assert len(found) == 4 * len(MODES)  # and none for the total line


def test_guest_time_is_exported_separately_and_can_be_disabled() -> None:
    found = only("node_cpu_guest_seconds_total", by_series(Cpu(host_paths(NUMA)).collect()))

    assert found['{cpu="3",mode="user"}'] == pytest.approx(3000 * TICK)
    assert found['{cpu="3",mode="nice"}'] == pytest.approx(100 * TICK)
    without = by_series(Cpu(host_paths(NUMA), CpuSettings(guest=False)).collect())
    assert only("node_cpu_guest_seconds_total", without) == {}


def test_throttles_are_counted_once_per_core_and_package() -> None:
    found = by_series(Cpu(host_paths(NUMA)).collect())

    assert only("node_cpu_core_throttles_total", found) == {
        '{package="0",core="0"}': 10,
        '{package="0",core="1"}': 11,
        '{package="1",core="0"}': 12,
        '{package="1",core="1"}': 13,
    }
    assert only("node_cpu_package_throttles_total", found) == {'{package="0"}': 30, '{package="1"}': 40}


def test_the_threads_of_a_core_share_its_counter(tmp_path: Path) -> None:
    tree = copied(tmp_path)
    for cpu in ("cpu1", "cpu2", "cpu3"):
        (tree / f"sys/devices/system/cpu/{cpu}/topology/physical_package_id").write_text("0\n")
        (tree / f"sys/devices/system/cpu/{cpu}/topology/core_id").write_text("0\n")

    found = by_series(Cpu(host_paths(tree)).collect())

    assert only("node_cpu_core_throttles_total", found) == {'{package="0",core="0"}': 10}
    assert only("node_cpu_package_throttles_total", found) == {'{package="0"}': 30}


def test_a_cpu_with_unknown_topology_has_no_throttles(tmp_path: Path) -> None:
    tree = copied(tmp_path)
    shutil.rmtree(tree / "sys/devices/system/cpu/cpu0/topology")
    (tree / "sys/devices/system/cpu/cpu1/topology/physical_package_id").write_text("-1\n")

    found = by_series(Cpu(host_paths(tree)).collect())

    assert set(only("node_cpu_core_throttles_total", found)) == {'{package="1",core="0"}', '{package="1",core="1"}'}


def test_a_processor_with_only_package_throttles_exports_only_those(tmp_path: Path) -> None:
    tree = copied(tmp_path)
    for cpu in range(4):
        (tree / f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count").unlink()

    found = by_series(Cpu(host_paths(tree)).collect())

    assert only("node_cpu_core_throttles_total", found) == {}
    assert only("node_cpu_package_throttles_total", found) == {'{package="0"}': 30, '{package="1"}': 40}


def test_isolated_cpus_are_marked_and_no_others() -> None:
    assert only("node_cpu_isolated", by_series(Cpu(host_paths(NUMA)).collect())) == {'{cpu="2"}': 1, '{cpu="3"}': 1}


def test_an_offline_cpu_keeps_its_state_and_loses_its_other_series(tmp_path: Path) -> None:
    tree = copied(tmp_path)
    stat = tree / "proc/stat"
    device = tree / "sys/devices/system/cpu/cpu3"
    cpu = Cpu(host_paths(tree))
    assert only("node_cpu_online", by_series(cpu.collect())) == {'{cpu="1"}': 1, '{cpu="2"}': 1, '{cpu="3"}': 1}

    whole = stat.read_text()
    stat.write_text("".join(line for line in whole.splitlines(keepends=True) if not line.startswith("cpu3")))
    (device / "online").write_text("0\n")
    shutil.rmtree(device / "topology")
    shutil.rmtree(device / "thermal_throttle")
    found = by_series(cpu.collect())

    assert only("node_cpu_online", found) == {'{cpu="1"}': 1, '{cpu="2"}': 1, '{cpu="3"}': 0}
    assert not any('cpu="3"' in series for series in only("node_cpu_seconds_total", found))
    assert '{package="1",core="1"}' not in only("node_cpu_core_throttles_total", found)


def test_a_cpu_that_comes_back_online_has_its_own_counters(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    stat = tmp_path / "proc/stat"
    cpu = Cpu(host_paths(tmp_path))
    for line in ("cpu1 50 0 0 100 0 0 0 0 0 0\n", "", "cpu1 7 0 0 90 0 0 0 0 0 0\n"):
        stat.write_text("cpu0 1 0 0 100 0 0 0 0 0 0\n" + line)
        found = only("node_cpu_seconds_total", by_series(cpu.collect()))

    assert found['{cpu="1",mode="user"}'] == pytest.approx(7 * TICK)


def test_a_hotplugged_cpu_is_exported_before_it_is_online(tmp_path: Path) -> None:
    tree = copied(tmp_path)
    cpu = Cpu(host_paths(tree))
    by_series(cpu.collect())
    folder = tree / "sys/devices/system/cpu"
    (folder / "cpu4").mkdir()
    (folder / "cpu4/online").write_text("0\n")
    (folder / "present").write_text("0-4\n")

    assert only("node_cpu_online", by_series(cpu.collect()))['{cpu="4"}'] == 0


def test_cpu_models_are_exported_only_if_enabled() -> None:
    asked = by_series(Cpu(host_paths(NUMA), CpuSettings(info=True)).collect())

    info = only("node_cpu_info", asked)
    assert len(info) == 4
    assert info[
        '{package="1",core="0",cpu="2",vendor="GenuineIntel",family="6",model="85",'
        'model_name="Intel(R) Xeon(R) Silver 4210 CPU @ 2.20GHz",microcode="0x5003604",stepping="7",'
        'cachesize="14080 KB"}'
    ]
    assert only("node_cpu_flag_info", asked) == {}
    assert only("node_cpu_info", by_series(Cpu(host_paths(NUMA)).collect())) == {}


def test_only_matching_flags_and_bugs_are_exported() -> None:
    settings = CpuSettings.model_validate({"flags_include": "^avx", "bugs_include": "^mds$"})
    found = by_series(Cpu(host_paths(NUMA), settings).collect())

    assert only("node_cpu_flag_info", found) == {'{flag="avx"}': 1, '{flag="avx2"}': 1, '{flag="avx512f"}': 1}
    assert only("node_cpu_bug_info", found) == {'{bug="mds"}': 1}


def test_the_number_of_cpus_of_this_machine_matches_python() -> None:
    found = only("node_cpu_seconds_total", by_series(Cpu(host_paths(Path("/"))).collect()))

    assert len(found) == len(MODES) * (os.cpu_count() or 0)


@given(before=TICKS, now=TICKS)
def test_no_counter_decreases_unless_the_cpu_restarts(before: list[int], now: list[int]) -> None:
    kept = without_small_decreases([*before], [*now])

    anew = (before[3] - now[3]) * TICK >= 3
    assert kept == (now if anew else [max(pair) for pair in zip(before, now, strict=True)])


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("cpu1 1 2 3", ("/proc/stat", "cpu1 1 2 3")),
        ("cpu1 1 2 3 4 5", ("/proc/stat", "cpu1 1 2 3 4 5")),
        ("cpuset 1 2 3 4", ("/proc/stat", "cpuset 1 2 3 4")),
        ("cpu0 9 9 9 9", ("/proc/stat", "cpu0 9 9 9 9")),  # repeated
    ],
)
def test_a_malformed_line_is_skipped(line: str, reported: tuple[str, str]) -> None:
    malformed = MalformedValues()

    found = parse_stat(f"cpu 1 2 3 4\ncpu0 1 2 3 4\n{line}\ncpu2 5 6 7 8\n", malformed)

    assert found == {"0": [1, 2, 3, 4], "2": [5, 6, 7, 8]}
    assert malformed == [reported]


@pytest.mark.parametrize("word", ["x", "-4", "99999999999999999999", "(null)"])
def test_a_malformed_value_affects_only_its_series(word: str) -> None:
    malformed = MalformedValues()

    assert parse_stat(f"cpu0 1 2 3 {word}\n", malformed) == {"0": [1, 2, 3, None]}
    assert malformed == [("/proc/stat: cpu0", word)]


@pytest.mark.parametrize("text", ["", "cpu  1 2 3 4\nintr 5\n"])
def test_a_file_without_cpus_is_reported(text: str) -> None:
    malformed = MalformedValues()

    assert parse_stat(text, malformed) == {}
    assert malformed == [("/proc/stat: cpu", "")]


@given(st.one_of(st.text(), st.text(alphabet="cpu0123 -\n").map(lambda text: "cpu0 " + text)))
def test_any_stat_can_be_parsed(text: str) -> None:
    assert all(4 <= len(ticks) <= 10 for ticks in parse_stat(text, MalformedValues()).values())


@given(st.sets(st.integers(0, 300)))
def test_a_formatted_cpu_list_parses_back(cpus: set[int]) -> None:
    text = ",".join(f"{cpu}-{cpu + 2}" if cpu % 2 else str(cpu) for cpu in sorted(cpus))

    assert set(parse_cpu_list(text, "isolated", MalformedValues())) == {
        n for cpu in cpus for n in range(cpu, cpu + (3 if cpu % 2 else 1))
    }


def test_a_cpu_listed_twice_is_counted_once() -> None:
    assert parse_cpu_list("0-2,1-3", "isolated", MalformedValues()) == [0, 1, 2, 3]


@pytest.mark.parametrize("text", ["a", "1-", "3-1", "0-99999999", "-1", "0-70000", "1 2", "(null)"])
def test_a_malformed_cpu_list_is_reported(text: str) -> None:
    malformed = MalformedValues()

    assert parse_cpu_list(text, "isolated", malformed) == []
    assert malformed == [("isolated", text)]


def test_a_malformed_list_of_isolated_cpus_affects_no_other_series(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(FIXTURES / "host", tmp_path / "host", symlinks=True))
    isolated = tree / "sys/devices/system/cpu/isolated"
    expected = {
        series: value
        for series, value in by_series(Cpu(host_paths(tree)).collect()).items()
        if not series.startswith("node_cpu_isolated")
    }
    isolated.write_text("(null)\n")

    found = list(Cpu(host_paths(tree)).collect())

    assert by_series(found) == expected
    assert reported(found) == [(str(isolated), "(null)")]


@given(st.text())
def test_any_cpuinfo_can_be_parsed(text: str) -> None:
    assert parse_cpuinfo("processor: 0\n" + text, MalformedValues())
    parse_cpuinfo(text, MalformedValues())


def test_cpuinfo_is_read_again_when_a_cpu_goes_offline_and_every_ten_minutes(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    now = [0.0]
    cpu = Cpu(host_paths(tmp_path), CpuSettings(info=True), clock=lambda: now[0])

    def microcodes(cpus: int, written: str) -> set[str]:
        (proc / "stat").write_text("".join(f"cpu{number} 1 1 1 1 1 1 1 1 1 1\n" for number in range(cpus)))
        (proc / "cpuinfo").write_text(
            "\n".join(f"processor: {number}\nmicrocode: {written}\n" for number in range(cpus))
        )
        found = only("node_cpu_info", by_series(cpu.collect()))
        assert len(found) == cpus
        return {line.partition('microcode="')[2].partition('"')[0] for line in found}

    assert microcodes(2, "0x1") == {"0x1"}
    assert microcodes(2, "0x2") == {"0x1"}
    assert microcodes(1, "0x2") == {"0x2"}
    now[0] += 600
    assert microcodes(1, "0x3") == {"0x3"}
