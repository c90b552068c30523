"""Neighbours by device."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.arp import Arp, parse_arp
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import by_series, host_paths

HEADING = "IP address       HW type     Flags       HW address            Mask     Device\n"
ARP = HEADING + (
    "192.0.2.1        0x1         0x2         02:fc:00:00:00:05     *        eth0\n"
    "192.0.2.9        0x1         0x0         00:00:00:00:00:00     *        eth0\n"
    "198.51.100.1     0x308       0x2              *        tun0\n"
)


def test_entries_are_counted_by_device_including_links_without_addresses(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/arp").write_text(ARP)

    found = by_series(Arp(host_paths(tmp_path)).collect())

    assert found == {'node_arp_entries{device="eth0"}': 2, 'node_arp_entries{device="tun0"}': 1}


def test_a_kernel_without_arp_has_no_entries_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Arp(host_paths(tmp_path)).collect())


def test_a_malformed_line_is_reported_and_the_others_are_counted() -> None:
    malformed = MalformedValues()

    assert parse_arp(ARP + "192.0.2.1 0x1\n", malformed) == {"eth0": 2, "tun0": 1}
    assert malformed == [("/proc/net/arp", "192.0.2.1 0x1")]


def test_an_entry_that_is_listed_twice_is_counted_once() -> None:
    assert parse_arp(ARP + ARP, MalformedValues()) == {"eth0": 2, "tun0": 1}


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    assert all(count > 0 for count in parse_arp(HEADING + text, MalformedValues()).values())
