"""Bonded interfaces."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.bonding import Bonding

from .support import FIXTURES, by_series, host_paths


def test_all_members_and_active_members_of_a_bond_are_counted() -> None:
    assert by_series(Bonding(host_paths(FIXTURES / "hardware")).collect()) == {
        'node_bonding_slaves{master="bond0"}': 2,
        'node_bonding_active{master="bond0"}': 1,
        'node_bonding_slaves{master="bond1"}': 0,
        'node_bonding_active{master="bond1"}': 0,
    }


def test_a_machine_without_bonds_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Bonding(host_paths(tmp_path)).collect())


def test_names_that_cannot_be_interfaces_are_skipped(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "hardware", tmp_path / "host", symlinks=True)
    (tmp_path / "host/sys/class/net/bond0/bonding/slaves").write_bytes(b"\0 ../../bond1 eth9\n")

    found = by_series(Bonding(host_paths(tmp_path / "host")).collect())

    assert found['node_bonding_slaves{master="bond0"}'] == 1
