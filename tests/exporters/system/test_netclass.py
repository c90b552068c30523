"""Properties of network interfaces."""

from __future__ import annotations

from pathlib import Path

from deckwatch_exporters.system.netclass import NetworkInterfaces
from deckwatch_exporters.system.network import NetworkSettings
from deckwatch_exporters.system.paths import Paths

from .support import by_series, host_paths


def device(tree: Path, name: str, **attributes: str) -> None:
    folder = tree / "sys/class/net" / name
    folder.mkdir(parents=True)
    for attribute, text in attributes.items():
        (folder / attribute).write_text(text)


def collected(tree: Path) -> dict[str, float]:
    return by_series(NetworkInterfaces(host_paths(tree), NetworkSettings()).collect())


def test_only_a_device_whose_state_is_up_counts_as_up(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n")
    device(tmp_path, "eth1", operstate="down\n")
    device(tmp_path, "lo", operstate="unknown\n")  # as the kernel says of every loopback device

    found = collected(tmp_path)

    assert [found[f'node_network_up{{device="{name}"}}'] for name in ("eth0", "eth1", "lo")] == [1, 0, 0]


def test_speed_is_in_bytes_a_second_and_minus_one_megabit_where_the_driver_does_not_know(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", speed="1000\n")
    device(tmp_path, "eth1", operstate="up\n", speed="-1\n")
    device(tmp_path, "lo", operstate="unknown\n")

    found = collected(tmp_path)

    speeds = {series: value for series, value in found.items() if "speed" in series}
    assert speeds == {
        'node_network_speed_bytes{device="eth0"}': 125_000_000,
        'node_network_speed_bytes{device="eth1"}': -125_000,
    }


def test_flags_and_ids_are_hexadecimal_in_sysfs(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", flags="0x1003\n", dev_id="0x20\n", mtu="1400\n")

    found = collected(tmp_path)

    assert found['node_network_flags{device="eth0"}'] == 4099
    assert found['node_network_device_id{device="eth0"}'] == 32
    assert found['node_network_mtu_bytes{device="eth0"}'] == 1400


def test_an_attribute_that_is_missing_empty_or_garbage_is_absent_and_the_others_are_there(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", mtu="", carrier="many\n", tx_queue_len="1000\n")

    found = collected(tmp_path)

    assert set(found) == {
        'node_network_transmit_queue_length{device="eth0"}',
        'node_network_up{device="eth0"}',
        'node_network_info{device="eth0",address="",broadcast="",duplex="",operstate="up",ifalias=""}',
    }


def test_a_file_among_the_devices_is_no_device(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n")
    (tmp_path / "sys/class/net/bonding_masters").write_text("bond0\n")

    assert {series for series in collected(tmp_path) if "bonding_masters" in series} == set()


def test_a_device_that_vanishes_while_it_is_read_is_not_reported_as_down(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n")
    device(tmp_path, "veth1")  # listed, and its attributes are gone already

    assert {series for series in collected(tmp_path) if "veth1" in series} == set()


def test_the_devices_of_this_machine_have_an_index_and_a_state() -> None:
    found = by_series(NetworkInterfaces(Paths(), NetworkSettings()).collect())

    assert found['node_network_iface_id{device="lo"}'] == 1  # the first device of every network namespace
    assert found['node_network_up{device="lo"}'] == 0
