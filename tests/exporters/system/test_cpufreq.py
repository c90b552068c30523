"""CPU frequencies and governors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.cpufreq import FREQUENCIES, CpuFrequency

from .support import FIXTURES, by_series, exposed, host_paths, malformed, only_samples

NUMA = FIXTURES / "numa"


def of_cpu(cpu: str, tree: Path) -> dict[str, float]:
    found = by_series(CpuFrequency(host_paths(tree)).collect())
    return {series: value for series, value in found.items() if f'cpu="{cpu}"' in series}


def test_frequencies_are_converted_from_kilohertz_to_hertz() -> None:
    assert of_cpu("0", NUMA) == {
        'node_cpu_frequency_hertz{cpu="0"}': 2_201_500_000,
        'node_cpu_frequency_avg_hertz{cpu="0"}': 2_100_000_000,
        'node_cpu_frequency_min_hertz{cpu="0"}': 800_000_000,
        'node_cpu_frequency_max_hertz{cpu="0"}': 3_200_000_000,
        'node_cpu_scaling_frequency_hertz{cpu="0"}': 2_200_000_000,
        'node_cpu_scaling_frequency_min_hertz{cpu="0"}': 1_000_000_000,
        'node_cpu_scaling_frequency_max_hertz{cpu="0"}': 3_000_000_000,
        'node_cpu_scaling_governor{cpu="0",governor="performance"}': 0,
        'node_cpu_scaling_governor{cpu="0",governor="schedutil"}': 1,
        'node_cpu_scaling_governor{cpu="0",governor="powersave"}': 0,
    }


def test_missing_files_and_unknown_values_are_absent() -> None:
    found = of_cpu("3", NUMA)

    assert 'node_cpu_frequency_hertz{cpu="3"}' not in found
    assert 'node_cpu_frequency_avg_hertz{cpu="3"}' not in found
    assert found['node_cpu_scaling_frequency_hertz{cpu="3"}'] == 2_203_000_000


def test_the_governor_has_a_numeric_value() -> None:
    lines = exposed(CpuFrequency(host_paths(NUMA)).collect())

    assert 'node_cpu_scaling_governor{cpu="0",governor="schedutil"} 1' in lines


def test_a_governor_listed_twice_is_exported_once(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(NUMA, tmp_path / "numa"))
    folder = tree / "sys/devices/system/cpu/cpu1/cpufreq"
    (folder / "scaling_available_governors").write_text("schedutil schedutil\n")

    governors = [
        s for s in only_samples(CpuFrequency(host_paths(tree)).collect()) if 'cpu="1",governor' in s.series.text
    ]

    assert [(sample.series.labels[1], sample.value) for sample in governors] == [(("governor", "schedutil"), 1)]


def test_a_cpu_without_frequencies_does_not_affect_the_others(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(NUMA, tmp_path / "numa"))
    shutil.rmtree(tree / "sys/devices/system/cpu/cpu0/cpufreq")

    assert of_cpu("0", tree) == {}
    assert of_cpu("1", tree)['node_cpu_scaling_frequency_hertz{cpu="1"}'] == 2_201_000_000


def test_malformed_frequencies_are_reported_and_unknown_ones_are_absent(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(NUMA, tmp_path / "numa"))
    files = sorted(tree.glob("sys/devices/system/cpu/cpu*/cpufreq/*"))
    frequencies = [file for file in files if file.name in FREQUENCIES]
    for file in files:
        file.write_text("<unknown>\n" if file in frequencies[1:] else "")
    frequencies[0].write_bytes(b"\xff\x00\n")

    found = list(CpuFrequency(host_paths(tree)).collect())

    assert by_series(found) == {}
    assert malformed(found) == [(str(frequencies[0]), "\\xff\x00")]


def test_a_host_without_frequency_scaling_has_no_series_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "sys/devices/system/cpu/cpu0").mkdir(parents=True)

    with pytest.raises(NotAvailable):
        list(CpuFrequency(host_paths(tmp_path)).collect())
