"""Virtual memory counters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable, Pattern
from deckwatch_exporters.system.vmstat import Vmstat, VmstatSettings, parse_vmstat

from .support import FIXTURES, by_series, host_paths

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
    assert {sample.series.metric.type for sample in samples} == {"unknown"}


def test_the_fields_that_are_exported_can_be_chosen_by_a_part_of_their_name() -> None:
    assert by_series(Vmstat(PATHS, VmstatSettings(fields=Pattern("fault_alloc|^nr_free"))).collect()) == {
        "node_vmstat_nr_free_pages": 1003086,
        "node_vmstat_thp_fault_alloc": 142,
    }


def test_a_field_that_appears_between_two_runs_is_exported_and_one_that_goes_is_not(tmp_path: Path) -> None:
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
def test_a_file_that_breaks_between_two_runs_gives_no_figure_of_another_field(broken: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    vmstat = tmp_path / "proc/vmstat"
    collector = Vmstat(host_paths(tmp_path))
    vmstat.write_text("pgpgin 1\npgpgout 2\n")
    assert by_series(collector.collect()) == {"node_vmstat_pgpgin": 1, "node_vmstat_pgpgout": 2}
    vmstat.write_text(broken)
    try:
        found = by_series(collector.collect())
    except ValueError:
        found = {}
    assert found == ({"node_vmstat_pgpgin": 1} if broken == "pgpgin 1\n" else {})
    vmstat.write_text("pgpgin 3\npgpgout 4\n")
    assert by_series(collector.collect()) == {"node_vmstat_pgpgin": 3, "node_vmstat_pgpgout": 4}


def test_a_kernel_without_the_file_has_no_figures_and_no_fault(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Vmstat(host_paths(tmp_path)).collect())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "/proc/vmstat is empty"),
        ("pgpgin\n", "/proc/vmstat: not a field: 'pgpgin'"),
        ("pgpgin 1\npgpg\n", "/proc/vmstat: not a field: 'pgpg'"),
        ("pgpgin 1 2\npgpgout\n", "/proc/vmstat: not a field: 'pgpgin 1 2'"),
        ("pg-in 1\n", "/proc/vmstat: not a field: 'pg-in 1'"),
        ("pgpgin many\n", "/proc/vmstat: not a field: 'pgpgin many'"),
        ("pgpgin 1\npgpgin 2\n", "/proc/vmstat: a field comes twice"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        parse_vmstat(text)


def test_a_figure_that_no_kernel_prints_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("pgpgin 99999999999999999999\n")

    with pytest.raises(ValueError, match=r"^/proc/vmstat: not figures: '99999999999999999999'$"):
        list(Vmstat(host_paths(tmp_path)).collect())


@given(st.one_of(st.text(), st.text(alphabet="ab_ 01\n\t")))
def test_any_text_is_fields_or_a_value_error_that_names_the_file(text: str) -> None:
    complaint = ""
    try:
        assert all(name.isascii() for name in parse_vmstat(text))
    except ValueError as fault:
        complaint = str(fault)
    assert not complaint or complaint.startswith("/proc/vmstat")
