"""Kernel files with a few values: entropy, file descriptors, hung tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable, Sample
from deckwatch_exporters.system.entropy import Entropy
from deckwatch_exporters.system.filefd import FileDescriptors, parse_file_nr
from deckwatch_exporters.system.kernel_hung import KernelHung
from deckwatch_exporters.system.parse_numbers import (
    MalformedValues,
    parse_decimal,
    parse_hexadecimal,
    parse_signed,
    parse_unsigned_numbers,
)
from deckwatch_exporters.system.paths import Paths

from .support import FIXTURES, by_series, host_paths, malformed

PATHS = host_paths(FIXTURES / "numa")
COLLECTORS = (Entropy, FileDescriptors, KernelHung)


def test_entropy_is_in_bits() -> None:
    assert by_series(Entropy(PATHS).collect()) == {
        "node_entropy_available_bits": 3943,
        "node_entropy_pool_size_bits": 4096,
    }


def test_allocated_and_maximum_file_descriptors_are_exported() -> None:
    assert by_series(FileDescriptors(PATHS).collect()) == {
        "node_filefd_allocated": 4416,
        "node_filefd_maximum": 1629184,
    }


def test_hung_tasks_are_counted() -> None:
    samples = list(KernelHung(PATHS).collect())

    assert by_series(samples) == {"node_kernel_hung_tasks_total": 11}
    assert [sample.series.metric.type for sample in samples if isinstance(sample, Sample)] == ["counter"]


@pytest.mark.parametrize("collector", COLLECTORS)
def test_a_kernel_without_the_file_has_no_series_and_no_error(
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
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"many\n", b"-1\n", b"(null)\n", b"1 2 3 4\n"])
def test_a_malformed_file_is_reported_and_the_other_one_is_exported(
    file: str, collector: type[Entropy | FileDescriptors | KernelHung], content: bytes, tmp_path: Path
) -> None:
    for other in ("sys/kernel/random/entropy_avail", "sys/kernel/random/poolsize"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("1\n")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(content)

    found = list(collector(Paths(proc=str(tmp_path))).collect())

    assert len(by_series(found)) == (1 if collector is Entropy else 0)
    ((what, _),) = malformed(found)
    assert what.endswith(file)


@given(st.text())
def test_any_file_nr_can_be_parsed(text: str) -> None:
    assert len(parse_file_nr(text, MalformedValues())) == 2


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_numbers_of_up_to_64_bits_are_parsed(values: list[int]) -> None:
    rejected = MalformedValues()

    assert parse_unsigned_numbers([str(value) for value in values], "/proc/file", rejected) == values
    assert rejected == []


@given(
    st.one_of(
        st.integers(max_value=-1).map(str),
        st.integers(min_value=2**64).map(str),
        st.sampled_from(
            ["", "-0", "+1", "1_0", " 1", "1.0", "nan", "inf", "(null)", "0x1", "\u0661", "\\xff", "9" * 5000]
        ),
    )
)
def test_other_text_is_not_an_unsigned_number_and_does_not_affect_its_neighbors(text: str) -> None:
    rejected = MalformedValues()

    assert parse_unsigned_numbers(["1", text, "2"], "/proc/file", rejected) == [1, None, 2]
    assert rejected == [("/proc/file", text[:200])]


@given(st.integers(-(2**63), 2**64 - 1))
def test_signed_numbers_are_parsed(value: int) -> None:
    assert parse_signed(str(value), "/proc/file", MalformedValues()) == value
    assert parse_decimal(str(value), "/proc/file", MalformedValues()) == value


@given(st.one_of(st.integers(max_value=-(2**63) - 1), st.integers(min_value=2**64)).map(str) | st.just("1_0"))
def test_numbers_of_more_than_64_bits_are_not_signed_numbers(text: str) -> None:
    rejected = MalformedValues()

    assert parse_signed(text, "/proc/file", rejected) is None
    assert parse_decimal(text, "/proc/file", rejected) is None
    assert len(rejected) == 2


@given(st.integers(0, 2**64 - 1))
def test_hexadecimal_numbers_are_parsed(value: int) -> None:
    assert parse_hexadecimal(f"{value:08x}", "/proc/file", MalformedValues()) == value


@pytest.mark.parametrize("text", ["", "0x1", "-1", "1_0", "zz", "1" * 17])
def test_other_text_is_not_a_hexadecimal_number(text: str) -> None:
    assert parse_hexadecimal(text, "/proc/file", MalformedValues()) is None
