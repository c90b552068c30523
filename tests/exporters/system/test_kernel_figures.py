"""The kernel's files of one or a few figures: entropy, file descriptors, hung tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.entropy import Entropy
from deckwatch_exporters.system.figures import figure, figures
from deckwatch_exporters.system.filefd import FileDescriptors, parse_file_nr
from deckwatch_exporters.system.kernel_hung import KernelHung
from deckwatch_exporters.system.paths import Paths

from .support import FIXTURES, by_series, host_paths

PATHS = host_paths(FIXTURES / "numa")
COLLECTORS = (Entropy, FileDescriptors, KernelHung)


def test_entropy_is_in_bits() -> None:
    assert by_series(Entropy(PATHS).collect()) == {
        "node_entropy_available_bits": 3943,
        "node_entropy_pool_size_bits": 4096,
    }


def test_file_descriptors_are_those_allocated_and_the_most_that_can_be() -> None:
    assert by_series(FileDescriptors(PATHS).collect()) == {
        "node_filefd_allocated": 4416,
        "node_filefd_maximum": 1629184,
    }


def test_hung_tasks_are_counted() -> None:
    samples = list(KernelHung(PATHS).collect())

    assert by_series(samples) == {"node_kernel_hung_tasks_total": 11}
    assert [sample.series.metric.type for sample in samples] == ["counter"]


@pytest.mark.parametrize("collector", COLLECTORS)
def test_a_kernel_without_the_file_has_no_figures_and_no_fault(
    collector: type[Entropy | FileDescriptors | KernelHung], tmp_path: Path
) -> None:
    with pytest.raises(NotAvailable):
        list(collector(host_paths(tmp_path)).collect())


@pytest.mark.parametrize(
    ("file", "collector"),
    [
        ("sys/kernel/random/entropy_avail", Entropy),
        ("sys/kernel/random/poolsize", Entropy),
        ("sys/fs/file-nr", FileDescriptors),
        ("sys/kernel/hung_task_detect_count", KernelHung),
    ],
)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"many\n", b"-1\n", b"1 2 3 4\n"])
def test_a_file_of_anything_else_is_named_in_the_error(
    file: str, collector: type[Entropy | FileDescriptors | KernelHung], content: bytes, tmp_path: Path
) -> None:
    for other in ("sys/kernel/random/entropy_avail", "sys/kernel/random/poolsize"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("1\n")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(content)

    with pytest.raises(ValueError, match=file.rpartition("/")[2]):
        list(collector(Paths(proc=str(tmp_path))).collect())


@given(st.text())
def test_any_text_is_file_descriptors_or_a_value_error_that_names_the_file(text: str) -> None:
    complaint = ""
    try:
        assert min(parse_file_nr(text)) >= 0
    except ValueError as fault:
        complaint = str(fault)
    assert not complaint or complaint.startswith("/proc/sys/fs/file-nr")


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_figures_of_up_to_64_bits_are_read_as_they_are(values: list[int]) -> None:
    assert figures([str(value) for value in values], "/proc/file") == values


@given(st.one_of(st.integers(max_value=-1), st.integers(min_value=2**64)))
def test_a_figure_that_no_kernel_prints_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=r"^/proc/file: not figures: "):
        figure(str(value), "/proc/file")
