"""NVMe controllers."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.nvme import Nvme

from .support import FIXTURES, by_series, host_paths


def test_make_firmware_and_state_are_labels_without_the_padding() -> None:
    assert by_series(Nvme(host_paths(FIXTURES / "hardware")).collect()) == {
        'node_nvme_info{device="nvme0",firmware_revision="2B2QEXM7",model="Samsung SSD 970 EVO Plus 1TB",'
        'serial="S4EWNF0M123456A",state="live"}': 1
    }


def test_a_machine_without_controllers_has_nothing_to_tell(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Nvme(host_paths(tmp_path)).collect())
