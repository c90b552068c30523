"""Virtual memory counters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable, Pattern
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.vmstat import Vmstat, VmstatSettings, parse_vmstat

from .support import FIXTURES, by_series, host_paths, malformed, only_samples

PATHS = host_paths(FIXTURES / "numa")


def test_paging_swapping_faults_and_oom_kills_are_exported_by_default_and_are_untyped() -> None:
    samples = list(Vmstat(PATHS).collect())

    assert by_series(samples) == {
        "node_vmstat_pgpgin": 7344136,
        "node_vmstat_pgpgout": 1541180,
        "node_vmstat_pswpin": 1476,
        "node_vmstat_pswpout": 35045,
        "node_vmstat_pgfault": 2320168,
        "node_vmstat_pgmajfault": 507162,
        "node_vmstat_oom_kill": 3,
    }
    assert {sample.series.metric.type for sample in only_samples(samples)} == {"unknown"}


def test_exported_fields_can_be_selected_by_a_part_of_their_name() -> None:
    assert by_series(Vmstat(PATHS, VmstatSettings(fields=Pattern("fault_alloc|^nr_free"))).collect()) == {
        "node_vmstat_nr_free_pages": 1003086,
        "node_vmstat_thp_fault_alloc": 142,
    }


def test_fields_that_appear_or_disappear_between_runs_are_detected(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    vmstat = tmp_path / "proc/vmstat"
    collector = Vmstat(host_paths(tmp_path))
    vmstat.write_text("pgpgin 1\nother 2\n")
    assert by_series(collector.collect()) == {"node_vmstat_pgpgin": 1}
    vmstat.write_text("other 2\npgpgin 4\noom_kill 5\n")
    assert by_series(collector.collect()) == {"node_vmstat_pgpgin": 4, "node_vmstat_oom_kill": 5}
    vmstat.write_text("other 2\noom_kill 6\n")
    assert by_series(collector.collect()) == {"node_vmstat_oom_kill": 6}


@pytest.mark.parametrize("broken", ["", "pgpgin 1\n", "pgpgin 1\npgpgout\n", "pgpgin 1\npgpgout 2 3\n", "2 pgpgin\n"])
def test_a_file_that_becomes_malformed_between_runs_mixes_up_no_fields(broken: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    vmstat = tmp_path / "proc/vmstat"
    collector = Vmstat(host_paths(tmp_path))
    vmstat.write_text("pgpgin 1\npgpgout 2\n")
    assert by_series(collector.collect()) == {"node_vmstat_pgpgin": 1, "node_vmstat_pgpgout": 2}
    vmstat.write_text(broken)
    found = by_series(collector.collect())
    assert found == ({"node_vmstat_pgpgin": 1} if broken.startswith("pgpgin 1\n") else {})
    vmstat.write_text("pgpgin 3\npgpgout 4\n")
    assert by_series(collector.collect()) == {"node_vmstat_pgpgin": 3, "node_vmstat_pgpgout": 4}


def test_a_kernel_without_the_file_has_no_series_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Vmstat(host_paths(tmp_path)).collect())


@pytest.mark.parametrize("line", ["pgpgin", "pgpgin 1 2", "pg-in 1", "pgpgout 2", "\\xff 3"])
def test_a_malformed_line_is_reported_and_the_others_are_exported(line: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text(f"pgpgout 5\n{line}\noom_kill 1\n")
    collector = Vmstat(host_paths(tmp_path))

    for _ in range(2):
        found = list(collector.collect())
        assert by_series(found) == {"node_vmstat_pgpgout": 5, "node_vmstat_oom_kill": 1}
        assert malformed(found) == [("/proc/vmstat", line)]


@pytest.mark.parametrize("word", ["many", "-1", "(null)", "99999999999999999999", "1_0", "\u0663"])
def test_a_malformed_value_affects_only_its_series(word: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text(f"pgpgin {word}\npgpgout 5\n")

    found = list(Vmstat(host_paths(tmp_path)).collect())

    assert by_series(found) == {"node_vmstat_pgpgout": 5}
    assert malformed(found) == [("/proc/vmstat: pgpgin", word)]


@given(st.one_of(st.text(), st.text(alphabet="ab_ 01\n\t")))
def test_any_text_can_be_parsed(text: str) -> None:
    assert all(name.isascii() for name in parse_vmstat(text, MalformedValues()))
