"""Memory of the host and of its NUMA nodes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable, Sample
from deckwatch_exporters.system import memory_numa
from deckwatch_exporters.system.memory import Memory, metric_part, parse_meminfo
from deckwatch_exporters.system.memory_numa import MemoryNuma
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import FIXTURES, by_series, exposed, host_paths, malformed

NUMA = FIXTURES / "numa"


def test_fields_are_exported_in_bytes_and_page_counts_without_a_unit() -> None:
    found = by_series(Memory(host_paths(NUMA)).collect())

    assert found["node_memory_MemTotal_bytes"] == 16303468 * 1024
    assert found["node_memory_Active_anon_bytes"] == 2048000 * 1024
    assert found["node_memory_Inactive_file_bytes"] == 4044800 * 1024
    assert found["node_memory_Committed_AS_bytes"] == 7340032 * 1024
    assert found["node_memory_VmallocTotal_bytes"] == 34359738367 * 1024
    assert found["node_memory_DirectMap4k_bytes"] == 316928 * 1024
    assert found["node_memory_HugePages_Total"] == 64
    assert found["node_memory_Hugepagesize_bytes"] == 2048 * 1024
    assert len(found) == (NUMA / "proc/meminfo").read_text().count("\n")


def test_memory_is_a_gauge() -> None:
    assert {s.series.metric.type for s in Memory(host_paths(NUMA)).collect() if isinstance(s, Sample)} == {"gauge"}


def test_a_second_run_has_the_same_series_with_new_values(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    meminfo = tmp_path / "proc/meminfo"
    memory = Memory(host_paths(tmp_path))
    meminfo.write_text("MemFree: 5 kB\nHugePages_Free: 7\n")
    first = by_series(memory.collect())
    meminfo.write_text("MemFree: 6 kB\nHugePages_Free: 7\n")

    assert first == {"node_memory_MemFree_bytes": 5120, "node_memory_HugePages_Free": 7}
    assert by_series(memory.collect()) == {"node_memory_MemFree_bytes": 6144, "node_memory_HugePages_Free": 7}


@pytest.mark.parametrize(
    ("name", "unit", "part"),
    [
        ("MemFree", "kB", "MemFree_bytes"),
        ("Inactive(file)", "kB", "Inactive_file_bytes"),
        ("HugePages_Rsvd", "", "HugePages_Rsvd"),
        ("A-b c", "", "A_b_c"),
    ],
)
def test_field_names_become_valid_metric_names(name: str, unit: str, part: str) -> None:
    assert metric_part(name, unit) == part


@pytest.mark.parametrize(
    "line",
    [
        "MemFree", "MemFree:", "MemFree: x kB", "MemFree: 5 MB", "MemFree: -5 kB", "MemFree: (null) kB", ": 5 kB",
        "MemFree: 99999999999999999999 kB", "MemTotal: 8 kB", "MemFree: \u0665 kB", "MemFree\\xff",
        "Mem-Total: 3 kB\nMem_Total: 4 kB",
    ],
)  # fmt: skip
def test_a_malformed_line_affects_only_its_series(line: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 9 kB\n{line}\nBuffers: 0 kB\n")

    found = list(Memory(host_paths(tmp_path)).collect())

    series = by_series(found)
    series.pop("node_memory_Mem_Total_bytes", None)
    assert series == {"node_memory_MemTotal_bytes": 9216, "node_memory_Buffers_bytes": 0}
    assert len(malformed(found)) == 1


def test_an_empty_file_is_reported() -> None:
    values = MalformedValues()

    assert parse_meminfo("\n", values) == {}
    assert values == [("/proc/meminfo", "")]


@given(st.one_of(st.text(), st.text(alphabet="aA(): 0159kB\n_\r\x0b\x85\u0663")))
def test_any_meminfo_can_be_parsed(text: str) -> None:
    fields = parse_meminfo(text, MalformedValues())

    assert all(value >= 0 for value in fields.values())
    assert all(metric_part(*field).isascii() for field in fields)


# NUMA nodes


def test_each_numa_node_has_memory_in_bytes_and_allocation_counters() -> None:
    found = by_series(MemoryNuma(host_paths(NUMA)).collect())

    assert found['node_memory_numa_MemTotal{node="0"}'] == 8151734 * 1024
    assert found['node_memory_numa_MemTotal{node="1"}'] == 8151735 * 1024
    assert found['node_memory_numa_Active_anon{node="1"}'] == 1024000 * 1024
    assert found['node_memory_numa_HugePages_Free{node="0"}'] == 28
    assert found['node_memory_numa_HugePages_Free{node="1"}'] == 32
    assert found['node_memory_numa_numa_hit_total{node="1"}'] == 193460335813
    assert found['node_memory_numa_interleave_hit_total{node="0"}'] == 57146
    assert len(found) == 2 * (9 + 6)
    samples = [s for s in MemoryNuma(host_paths(NUMA)).collect() if isinstance(s, Sample)]
    types = {s.series.metric.name: s.series.metric.type for s in samples}
    assert {name for name, type in types.items() if type == "counter"} == {n for n in types if n.endswith("_total")}


def test_a_host_without_numa_nodes_has_no_series_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "sys/devices/system/node/possible").mkdir(parents=True)

    with pytest.raises(NotAvailable):
        list(MemoryNuma(host_paths(tmp_path)).collect())


def test_a_removed_node_is_absent_and_the_others_are_exported(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(NUMA, tmp_path / "numa"))
    (tree / "sys/devices/system/node/node0/meminfo").unlink()
    (tree / "sys/devices/system/node/node0/numastat").unlink()

    found = exposed(MemoryNuma(host_paths(tree)).collect())

    assert not any('node="0"' in line for line in found)
    assert sum('node="1"' in line for line in found) == 9 + 6


@pytest.mark.parametrize(
    "line",
    ["Node 0 MemFree 5 kB", "MemFree: 5 kB", "Node x MemFree: 5 kB", "Node 0 MemFree: 5 MB", "Node 0 MemTotal: 1 kB"],
)
def test_a_malformed_line_of_a_node_affects_only_its_series(line: str) -> None:
    values = MalformedValues()

    found = memory_numa.parse_meminfo(f"Node 0 MemTotal: 9 kB\n{line}\n", "/node0/meminfo", values)

    assert found == {"MemTotal": 9216}
    assert values == [("/node0/meminfo", line)]


@given(st.one_of(st.text(), st.text(alphabet="Node 0129M(): kB_\n").map(lambda text: "Node 0 " + text)))
def test_any_file_of_a_node_can_be_parsed(text: str) -> None:
    for parse in (memory_numa.parse_meminfo, memory_numa.parse_numastat):
        assert all(value >= 0 for value in parse(text, "/node0/file", MalformedValues()).values())
