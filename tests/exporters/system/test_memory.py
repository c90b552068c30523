"""Memory of the host and of its NUMA nodes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system import memory_numa
from deckwatch_exporters.system.memory import Memory, metric_part, parse_meminfo
from deckwatch_exporters.system.memory_numa import MemoryNuma

from .support import FIXTURES, by_series, exposed, host_paths

NUMA = FIXTURES / "numa"


def test_every_field_is_exported_in_bytes_and_counts_of_pages_without_unit() -> None:
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
    assert {sample.series.metric.type for sample in Memory(host_paths(NUMA)).collect()} == {"gauge"}


def test_a_second_run_has_the_same_series_and_the_new_values(tmp_path: Path) -> None:
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
def test_fields_become_names_that_prometheus_takes(name: str, unit: str, part: str) -> None:
    assert metric_part(name, unit) == part


@pytest.mark.parametrize("line", ["MemFree", "MemFree:", "MemFree: x kB", "MemFree: 5 MB", "MemFree: -5 kB", ": 5 kB"])
def test_a_line_of_anything_else_is_named_in_the_error(line: str) -> None:
    with pytest.raises(ValueError, match=f"^/proc/meminfo: not a field: '{line}'$"):
        parse_meminfo(f"MemTotal: 9 kB\n{line}\nBuffers: 0 kB\n")


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^/proc/meminfo is empty$"):
        parse_meminfo("\n")


@given(st.one_of(st.text(), st.text(alphabet="aA(): 0159kB\n_\r\x0b\x85\u0663")))
def test_any_text_is_fields_or_a_value_error_that_names_the_file(text: str) -> None:
    complaint = ""
    try:
        fields = parse_meminfo(text)
        assert all(value >= 0 for value in fields.values())
        assert all(metric_part(*field).isascii() for field in fields)
    except ValueError as fault:
        complaint = str(fault)
    assert not complaint or complaint.startswith("/proc/meminfo")


# NUMA nodes


def test_each_numa_node_has_its_memory_in_bytes_and_its_allocations_as_counters() -> None:
    found = by_series(MemoryNuma(host_paths(NUMA)).collect())

    assert found['node_memory_numa_MemTotal{node="0"}'] == 8151734 * 1024
    assert found['node_memory_numa_MemTotal{node="1"}'] == 8151735 * 1024
    assert found['node_memory_numa_Active_anon{node="1"}'] == 1024000 * 1024
    assert found['node_memory_numa_HugePages_Free{node="0"}'] == 28
    assert found['node_memory_numa_HugePages_Free{node="1"}'] == 32
    assert found['node_memory_numa_numa_hit_total{node="1"}'] == 193460335813
    assert found['node_memory_numa_interleave_hit_total{node="0"}'] == 57146
    assert len(found) == 2 * (9 + 6)
    types = {s.series.metric.name: s.series.metric.type for s in MemoryNuma(host_paths(NUMA)).collect()}
    assert {name for name, type in types.items() if type == "counter"} == {n for n in types if n.endswith("_total")}


def test_a_host_without_numa_nodes_has_no_figures_and_no_fault(tmp_path: Path) -> None:
    (tmp_path / "sys/devices/system/node/possible").mkdir(parents=True)

    with pytest.raises(NotAvailable):
        list(MemoryNuma(host_paths(tmp_path)).collect())


def test_a_node_whose_memory_was_taken_out_is_left_out(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(NUMA, tmp_path / "numa"))
    (tree / "sys/devices/system/node/node0/meminfo").unlink()

    found = exposed(MemoryNuma(host_paths(tree)).collect())

    assert not any('node="0"' in line for line in found)
    assert sum('node="1"' in line for line in found) == 9 + 6


@pytest.mark.parametrize(
    "line", ["Node 0 MemFree 5 kB", "MemFree: 5 kB", "Node x MemFree: 5 kB", "Node 0 MemFree: 5 MB"]
)
def test_a_line_of_a_nodes_memory_that_is_no_field_is_named_with_its_file(line: str) -> None:
    with pytest.raises(ValueError, match=f"^/node0/meminfo: not a field: '{line}'$"):
        memory_numa.parse_meminfo(line, "/node0/meminfo")


@given(st.one_of(st.text(), st.text(alphabet="Node 0129M(): kB_\n").map(lambda text: "Node 0 " + text)))
def test_any_text_is_a_nodes_memory_or_a_value_error_that_names_the_file(text: str) -> None:
    for parse in (memory_numa.parse_meminfo, memory_numa.parse_numastat):
        complaint = ""
        try:
            assert all(value >= 0 for value in parse(text, "/node0/file").values())
        except ValueError as fault:
            complaint = str(fault)
        assert not complaint or complaint.startswith("/node0/file")
