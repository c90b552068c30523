"""Memory errors by controller, row and channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.edac import Edac, dimm_label

from .support import FIXTURES, by_series, host_paths


def test_errors_are_exported_by_controller_row_and_channel() -> None:
    channel = 'node_edac_channel_{}correctable_errors_total{{controller="0",csrow="0",channel="{}",dimm_label="{}"}}'

    assert by_series(Edac(host_paths(FIXTURES / "hardware")).collect()) == {
        'node_edac_correctable_errors_total{controller="0"}': 1,
        'node_edac_csrow_correctable_errors_total{controller="0",csrow="unknown"}': 2,
        'node_edac_uncorrectable_errors_total{controller="0"}': 5,
        'node_edac_csrow_uncorrectable_errors_total{controller="0",csrow="unknown"}': 6,
        'node_edac_csrow_correctable_errors_total{controller="0",csrow="0"}': 3,
        'node_edac_csrow_uncorrectable_errors_total{controller="0",csrow="0"}': 4,
        channel.format("", 0, "CPU0Channel0_DIMM1"): 2,
        channel.format("un", 0, "CPU0Channel0_DIMM1"): 0,
        channel.format("", 1, "mc0_csrow0_channel1"): 1,
        'node_edac_correctable_errors_total{controller="1"}': 0,
        'node_edac_csrow_correctable_errors_total{controller="1",csrow="unknown"}': 0,
        'node_edac_uncorrectable_errors_total{controller="1"}': 0,
        'node_edac_csrow_uncorrectable_errors_total{controller="1",csrow="unknown"}': 0,
    }


def test_a_channel_without_a_label_belongs_to_an_unknown_module() -> None:
    assert dimm_label(None) == "unknown"


def test_a_counter_that_is_not_a_number_is_absent(tmp_path: Path) -> None:
    controller = tmp_path / "sys/devices/system/edac/mc/mc0"
    controller.mkdir(parents=True)
    (controller / "ce_count").write_text("many\n")
    (controller / "ue_count").write_text("7\n")

    assert by_series(Edac(host_paths(tmp_path)).collect()) == {
        'node_edac_uncorrectable_errors_total{controller="0"}': 7
    }


def test_a_machine_without_error_correction_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Edac(host_paths(tmp_path)).collect())
