"""NVMe controllers and their namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.nvme import Nvme

from .support import FIXTURES, by_series, host_paths


def test_model_firmware_and_state_are_labels_without_padding() -> None:
    assert (
        by_series(Nvme(host_paths(FIXTURES / "hardware")).collect())[
            'node_nvme_info{device="nvme0",firmware_revision="2B2QEXM7",model="Samsung SSD 970 EVO Plus 1TB",'
            'serial="S4EWNF0M123456A",state="live",cntlid="4"}'
        ]
        == 1
    )


def test_the_size_of_a_namespace_is_in_bytes() -> None:
    series = by_series(Nvme(host_paths(FIXTURES / "hardware")).collect())

    assert {name.removeprefix("node_nvme_namespace_"): value for name, value in series.items() if "nsid" in name} == {
        'info{device="nvme0",nsid="1",ana_state="unknown"}': 1,
        'capacity_bytes{device="nvme0",nsid="1"}': 1953525168 * 512,
        'size_bytes{device="nvme0",nsid="1"}': 1953525168 * 512,
        'used_bytes{device="nvme0",nsid="1"}': 1525168 * 512,
        'logical_block_size_bytes{device="nvme0",nsid="1"}': 512,
    }


def test_sectors_have_512_bytes_regardless_of_the_logical_block_size(tmp_path: Path) -> None:
    namespace = tmp_path / "sys/class/nvme/nvme3/nvme3c1n2"
    (namespace / "queue").mkdir(parents=True)
    (namespace / "queue/logical_block_size").write_text("4096\n")
    (namespace / "size").write_text("80\n")
    (namespace / "nuse").write_text("4\n")
    (namespace / "ana_state").write_text("optimized\n")

    series = by_series(Nvme(host_paths(tmp_path)).collect())

    assert series['node_nvme_namespace_info{device="nvme3",nsid="2",ana_state="optimized"}'] == 1
    assert series['node_nvme_namespace_size_bytes{device="nvme3",nsid="2"}'] == 40960
    assert series['node_nvme_namespace_used_bytes{device="nvme3",nsid="2"}'] == 16384


def test_a_machine_without_controllers_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Nvme(host_paths(tmp_path)).collect())
