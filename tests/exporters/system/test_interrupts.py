"""Interrupts and soft interrupts by CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.interrupts import Interrupt, Interrupts, InterruptsSettings, parse_interrupts
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.softirqs import Softirqs, parse_softirqs

from .support import FIXTURES, by_series, exposed, host_paths, only_samples

PATHS = host_paths(FIXTURES / "numa")


def lines_of(text: str, tree: Path, settings: InterruptsSettings | None = None) -> dict[str, float]:
    (tree / "proc").mkdir(exist_ok=True)
    (tree / "proc/interrupts").write_text(text)
    return by_series(Interrupts(host_paths(tree), settings).collect())


def test_a_numbered_interrupt_has_its_controller_and_devices() -> None:
    found = by_series(Interrupts(PATHS).collect())

    assert found['node_interrupts_total{cpu="0",type="0",info="IO-APIC",devices="2-edge timer"}'] == 44
    shared = 'type="16",info="IO-APIC",devices="16-fasteoi ehci_hcd:usb1, snd_hda_intel:card0"'
    assert found[f'node_interrupts_total{{cpu="1",{shared}}}'] == 9
    assert found['node_interrupts_total{cpu="3",type="121",info="dummy",devices=""}'] == 0


def test_a_named_interrupt_has_a_description_and_no_devices() -> None:
    found = by_series(Interrupts(PATHS).collect())

    assert found['node_interrupts_total{cpu="2",type="LOC",info="Local timer interrupts",devices=""}'] == 16543210


def test_lines_without_a_value_for_every_cpu_are_skipped() -> None:
    found = "\n".join(exposed(Interrupts(PATHS).collect()))

    assert "ERR" not in found
    assert "MIS" not in found
    assert found.count("\n") + 1 == 7 * 4


def test_error_lines_are_skipped_on_a_single_cpu_too(tmp_path: Path) -> None:
    assert lines_of("  CPU0\n 1: 5 IO-APIC 1-edge i8042\nERR: 0\nMIS: 0\n", tmp_path) == {
        'node_interrupts_total{cpu="0",type="1",info="IO-APIC",devices="1-edge i8042"}': 5
    }


def test_columns_are_matched_by_heading_because_offline_cpus_have_none(tmp_path: Path) -> None:
    assert lines_of("  CPU0 CPU2\nNMI: 5 6 Non-maskable interrupts\n", tmp_path) == {
        'node_interrupts_total{cpu="0",type="NMI",info="Non-maskable interrupts",devices=""}': 5,
        'node_interrupts_total{cpu="2",type="NMI",info="Non-maskable interrupts",devices=""}': 6,
    }


def test_arm_lines_without_a_space_after_the_name_are_parsed() -> None:
    _, lines = parse_interrupts(
        "  CPU0 CPU1\nIPI0:1234567890 7 Rescheduling interrupts\n11:  3 4 GICv3 27 Level arch_timer\n",
        MalformedValues(),
    )

    assert lines == {
        "IPI0": (Interrupt("IPI0", "Rescheduling interrupts", ""), [1234567890, 7]),
        "11": (Interrupt("11", "GICv3", "27 Level arch_timer"), [3, 4]),
    }


def test_a_changed_or_removed_line_is_updated_in_the_next_run(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    file = tmp_path / "proc/interrupts"
    collector = Interrupts(host_paths(tmp_path))
    file.write_text("  CPU0\n 9: 1 IO-APIC 9-edge eth0\n 10: 2 IO-APIC 10-edge usb\n")
    assert len(by_series(collector.collect())) == 2
    file.write_text("  CPU0\n 9: 3 IO-APIC 9-edge eth7\n")

    assert by_series(collector.collect()) == {
        'node_interrupts_total{cpu="0",type="9",info="IO-APIC",devices="9-edge eth7"}': 3
    }


def test_the_series_of_an_offline_cpu_disappear(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    file = tmp_path / "proc/interrupts"
    collector = Interrupts(host_paths(tmp_path))
    file.write_text("  CPU0 CPU1 CPU2\nNMI: 1 2 3 Non-maskable interrupts\n")
    assert len(by_series(collector.collect())) == 3
    file.write_text("  CPU0 CPU2\nNMI: 4 5 Non-maskable interrupts\n")

    assert by_series(collector.collect()) == {
        'node_interrupts_total{cpu="0",type="NMI",info="Non-maskable interrupts",devices=""}': 4,
        'node_interrupts_total{cpu="2",type="NMI",info="Non-maskable interrupts",devices=""}': 5,
    }


@pytest.mark.parametrize(
    ("settings", "types"),
    [
        ({"include": "eth0|^LOC;"}, {"120", "LOC"}),
        ({"exclude": "IO-APIC|dummy"}, {"120", "NMI", "LOC"}),
        ({"include": "IO-APIC", "exclude": "timer"}, {"8", "16"}),
    ],
)
def test_lines_can_be_selected_by_name_description_and_devices(settings: dict[str, str], types: set[str]) -> None:
    samples = Interrupts(PATHS, InterruptsSettings.model_validate(settings)).collect()

    assert {dict(sample.series.labels)["type"] for sample in only_samples(samples)} == types


def test_zero_values_can_be_excluded() -> None:
    found = by_series(Interrupts(PATHS, InterruptsSettings(zeros=False)).collect())

    assert {series: value for series, value in found.items() if 'type="120"' in series} == {
        'node_interrupts_total{cpu="0",type="120",info="PCI-MSI",devices="1572864-edge eth0-TxRx-0"}': 3200456,
        'node_interrupts_total{cpu="2",type="120",info="PCI-MSI",devices="1572864-edge eth0-TxRx-0"}': 812345,
    }


@pytest.mark.parametrize("collector", [Interrupts, Softirqs])
def test_a_kernel_without_the_file_has_no_series_and_no_error(
    collector: type[Interrupts | Softirqs], tmp_path: Path
) -> None:
    with pytest.raises(NotAvailable):
        list(collector(host_paths(tmp_path)).collect())


@pytest.mark.parametrize(
    ("heading", "cpus"),
    [("CPU0 CPU1", ["0", "1"]), ("CPU0 CPU0", ["0", None]), ("CPUx CPU1", [None, "1"]), ("CPU0 (null)", ["0", None])],
)
def test_a_malformed_cpu_in_the_heading_affects_only_its_column(heading: str, cpus: list[str | None]) -> None:
    malformed = MalformedValues()

    assert parse_interrupts(f"{heading}\n1: 2 3 IO-APIC timer\n", malformed) == (
        cpus,
        {"1": (Interrupt("1", "IO-APIC", "timer"), [2, 3])},
    )
    assert len(malformed) == cpus.count(None)


@pytest.mark.parametrize(
    "line", ["1: 2 IO-APIC timer", "1: 2 3 4 IO-APIC timer", "0: 8 9 IO-APIC timer", "1 2 3 IO-APIC timer"]
)
def test_a_malformed_line_is_skipped(line: str) -> None:
    malformed = MalformedValues()

    _, lines = parse_interrupts(f"CPU0 CPU1\n0: 1 2 IO-APIC timer\n{line}\n", malformed)

    assert lines == {"0": (Interrupt("0", "IO-APIC", "timer"), [1, 2])}
    assert [text for _, text in malformed] == [line]


def test_a_malformed_value_affects_only_its_series() -> None:
    malformed = MalformedValues()

    _, lines = parse_interrupts("CPU0 CPU1\n1: x 3 IO-APIC timer\n", malformed)

    assert lines["1"][1] == [None, 3]
    assert malformed == [("/proc/interrupts: 1", "x")]


@given(st.text(), st.text(alphabet="0123: Cx\nPU"))
def test_any_interrupts_can_be_parsed(any_text: str, tail: str) -> None:
    for text in (any_text, " CPU0 CPU1\n" + tail):
        cpus, lines = parse_interrupts(text, MalformedValues())
        assert all(len(counts) == len(cpus) for _, counts in lines.values())


# Soft interrupts


def test_soft_interrupts_are_counted_by_cpu_and_kind() -> None:
    found = by_series(Softirqs(PATHS).collect())

    assert found['node_softirqs_functions_total{cpu="0",type="HI"}'] == 3
    assert found['node_softirqs_functions_total{cpu="3",type="TIMER"}'] == 2550757
    assert found['node_softirqs_functions_total{cpu="2",type="IRQ_POLL"}'] == 0
    assert len(found) == 10 * 4


@pytest.mark.parametrize("line", ["TIMER: 1", "TIMER 1 2", "HI: 3 4", "TIMER: 1 2 3"])
def test_a_malformed_line_of_soft_interrupts_is_skipped(line: str) -> None:
    malformed = MalformedValues()

    assert parse_softirqs(f"CPU0 CPU1\nHI: 1 2\n{line}\n", malformed) == (["0", "1"], {"HI": [1, 2]})
    assert malformed == [("/proc/softirqs", line)]


def test_a_malformed_value_of_soft_interrupts_affects_only_its_series() -> None:
    malformed = MalformedValues()

    assert parse_softirqs("CPU0 CPU1\nHI: x 2\n", malformed) == (["0", "1"], {"HI": [None, 2]})
    assert malformed == [("/proc/softirqs: HI", "x")]


@given(st.text(), st.text(alphabet="0123: Hx\nI"))
def test_any_softirqs_can_be_parsed(any_text: str, tail: str) -> None:
    for text in (any_text, " CPU0 CPU1\nHI:" + tail):
        cpus, types = parse_softirqs(text, MalformedValues())
        assert all(len(counts) == len(cpus) for counts in types.values())
