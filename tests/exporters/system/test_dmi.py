"""Vendor and model of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.dmi import Dmi

from .support import FIXTURES, exposed, host_paths


def test_vendor_and_model_are_labels_and_missing_firmware_fields_are_omitted() -> None:
    assert exposed(Dmi(host_paths(FIXTURES / "hardware")).collect()) == [
        'node_dmi_info{bios_date="04/12/2021",bios_release="2.2",bios_vendor="Dell Inc.",bios_version="2.2.4",'
        'board_name="07PXPY",board_vendor="Dell Inc.",board_version="A01",chassis_vendor="Dell Inc.",'
        'chassis_version="",product_family="PowerEdge",product_name="PowerEdge R6515",'
        'product_sku="SKU=NotProvided;ModelName=PowerEdge R6515",product_uuid="83340ca8-cb49-4474-8c29-d2088ca84dd9",'
        'system_vendor="Dell Inc."} 1'
    ]


def test_the_firmware_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    (folder / "sys_vendor").write_text("Harbour Works\n")
    dmi = Dmi(host_paths(tmp_path))
    before = exposed(dmi.collect())
    (folder / "sys_vendor").unlink()

    assert exposed(dmi.collect()) == before == ['node_dmi_info{system_vendor="Harbour Works"} 1']


def test_a_machine_without_dmi_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Dmi(host_paths(tmp_path)).collect())
