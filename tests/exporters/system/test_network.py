"""Traffic of network devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable, Sample
from deckwatch_exporters.system.network import NetworkDevices, NetworkSettings, parse_net_dev
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import by_series, host_paths

DEVICE = "{}: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"

DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100     1 0 0 0 0 0 0
  eth0:18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
eth0:1:       7       0    0    0    0     0          0         0        0     0 0 0 0 0 0 0
"""


def host(tree: Path, dev: str = DEV) -> Path:
    (tree / "proc/net").mkdir(parents=True)
    (tree / "proc/net/dev").write_text(dev)
    return tree


def test_each_column_is_exported_under_the_name_used_by_node_exporter(tmp_path: Path) -> None:
    found = by_series(NetworkDevices(host_paths(host(tmp_path)), NetworkSettings()).collect())

    received = ["bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast"]
    sent = ["bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed"]
    of_eth0 = [found[f'node_network_receive_{name}_total{{device="eth0"}}'] for name in received]
    of_eth0 += [found[f'node_network_transmit_{name}_total{{device="eth0"}}'] for name in sent]
    assert of_eth0 == [2**64 - 1, *range(2, 17)]


def test_an_alias_with_a_colon_in_its_name_is_a_separate_device(tmp_path: Path) -> None:
    found = by_series(NetworkDevices(host_paths(host(tmp_path)), NetworkSettings()).collect())

    assert found['node_network_receive_bytes_total{device="eth0:1"}'] == 7


def test_nohandler_packets_are_read_from_sysfs_and_absent_if_missing(tmp_path: Path) -> None:
    tree = host(tmp_path)
    statistics = tree / "sys/class/net/eth0/statistics"
    statistics.mkdir(parents=True)
    (statistics / "rx_nohandler").write_text("42\n")

    found = by_series(NetworkDevices(host_paths(tree), NetworkSettings()).collect())

    no_handler = {series: value for series, value in found.items() if "nohandler" in series}
    assert no_handler == {'node_network_receive_nohandler_total{device="eth0"}': 42}


@pytest.mark.parametrize(
    ("chosen", "devices"),
    [
        ({"device_exclude": "^(lo|eth0:.*)$"}, {"eth0"}),
        ({"device_include": "^lo$"}, {"lo"}),
        ({"device_include": "^eth", "device_exclude": ":"}, {"eth0"}),
        ({}, {"lo", "eth0", "eth0:1"}),
    ],
)
def test_devices_are_selected_by_regular_expressions(chosen: dict[str, str], devices: set[str], tmp_path: Path) -> None:
    collector = NetworkDevices(host_paths(host(tmp_path)), NetworkSettings.model_validate(chosen))

    assert {dict(item.series.labels)["device"] for item in collector.collect() if isinstance(item, Sample)} == devices


def test_a_kernel_without_networking_has_no_devices_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(NetworkDevices(host_paths(tmp_path), NetworkSettings()).collect())


@pytest.mark.parametrize(
    "line", ["eth0: 1 2 3", "eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "no colon", DEVICE.format("lo")]
)
def test_a_malformed_line_is_skipped(line: str) -> None:
    malformed = MalformedValues()

    assert parse_net_dev(f"{DEVICE.format('lo')}\n{line}\n", malformed) == {"lo": list(range(16))}
    assert malformed == [("/proc/net/dev", line)]


def test_a_malformed_value_affects_only_its_series() -> None:
    malformed = MalformedValues()

    found = parse_net_dev(DEVICE.format("lo").replace(" 3 ", " -3 "), malformed)

    assert found == {"lo": [0, 1, 2, None, *range(4, 16)]}
    assert malformed == [("/proc/net/dev: lo", "-3")]


def test_devices_with_names_that_differ_in_undecodable_bytes_are_distinct(tmp_path: Path) -> None:
    tree = host(tmp_path)
    devices = [DEVICE.format("eth").encode().replace(b"eth", b"eth" + byte) for byte in (b"\xfe", b"\xff")]
    (tree / "proc/net/dev").write_bytes(b"\n".join([*devices, b""]))
    for name, value in ((b"eth\xfe", 1), (b"eth\xff", 2)):
        statistics = os.path.join(os.fsencode(tree), b"sys/class/net", name, b"statistics")
        folder = Path(os.fsdecode(statistics))
        folder.mkdir(parents=True)
        (folder / "rx_nohandler").write_text(f"{value}\n")

    found = by_series(NetworkDevices(host_paths(tree), NetworkSettings()).collect())

    for device, value in ((r"eth\\xfe", 1), (r"eth\\xff", 2)):
        assert found[f'node_network_receive_packets_total{{device="{device}"}}'] == 1
        assert found[f'node_network_receive_nohandler_total{{device="{device}"}}'] == value


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    assert all(len(values) == 16 for values in parse_net_dev(text, MalformedValues()).values())
