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


def test_only_a_device_in_state_up_is_up(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n")
    device(tmp_path, "eth1", operstate="down\n")
    device(tmp_path, "lo", operstate="unknown\n")  # the kernel reports this for every loopback device

    found = collected(tmp_path)

    assert [found[f'node_network_up{{device="{name}"}}'] for name in ("eth0", "eth1", "lo")] == [1, 0, 0]


def test_speed_is_in_bytes_per_second_and_minus_one_megabit_if_unknown(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", speed="1000\n")
    device(tmp_path, "eth1", operstate="up\n", speed="-1\n")
    device(tmp_path, "lo", operstate="unknown\n")

    found = collected(tmp_path)

    speeds = {series: value for series, value in found.items() if "speed" in series}
    assert speeds == {
        'node_network_speed_bytes{device="eth0"}': 125_000_000,
        'node_network_speed_bytes{device="eth1"}': -125_000,
    }


def test_flags_and_ids_are_parsed_as_hexadecimal(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", flags="0x1003\n", dev_id="0x20\n", mtu="1400\n")

    found = collected(tmp_path)

    assert found['node_network_flags{device="eth0"}'] == 4099
    assert found['node_network_device_id{device="eth0"}'] == 32
    assert found['node_network_mtu_bytes{device="eth0"}'] == 1400


def test_an_enabled_interface_is_administratively_up_even_without_a_link(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="down\n", flags="0x1003\n")
    device(tmp_path, "eth1", operstate="down\n", flags="0x1002\n")

    infos = [series for series in collected(tmp_path) if series.startswith("node_network_info")]

    assert ['adminstate="up"' in infos[0], 'adminstate="down"' in infos[1]] == [True, True]


def test_a_missing_empty_or_malformed_attribute_does_not_affect_the_others(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", mtu="", carrier="many\n", tx_queue_len="1000\n")

    found = collected(tmp_path)

    assert set(found) == {
        'node_network_transmit_queue_length{device="eth0"}',
        'node_network_up{device="eth0"}',
        'node_network_info{device="eth0",address="",broadcast="",duplex="",operstate="up",adminstate="unknown",ifalias=""}',
    }


def test_a_regular_file_in_the_device_folder_is_ignored(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n")
    (tmp_path / "sys/class/net/bonding_masters").write_text("bond0\n")

    assert {series for series in collected(tmp_path) if "bonding_masters" in series} == set()


def test_a_device_removed_while_it_is_read_is_not_reported_as_down(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n")
    device(tmp_path, "veth1")  # listed, but its attributes are already gone

    assert {series for series in collected(tmp_path) if "veth1" in series} == set()


class Watched:
    """The interfaces below a tree, over several runs, with a clock that the test sets."""

    def __init__(self, tree: Path) -> None:
        self.now = 1000.0
        self._collector = NetworkInterfaces(host_paths(tree), NetworkSettings(), clock=lambda: self.now)

    def collect(self) -> dict[str, float]:
        return by_series(self._collector.collect())


def test_attributes_of_the_link_are_updated_in_the_next_run(tmp_path: Path) -> None:
    before = {"operstate": "up\n", "carrier": "1\n", "carrier_changes": "1\n", "flags": "0x1003\n"}
    after = {"operstate": "down\n", "carrier": "0\n", "carrier_changes": "2\n", "flags": "0x1002\n"}
    device(tmp_path, "eth0", **before, speed="1000\n", duplex="full\n")
    watched = Watched(tmp_path)
    watched.collect()
    for file, text in {**after, "speed": "100\n", "duplex": "half\n"}.items():
        (tmp_path / "sys/class/net/eth0" / file).write_text(text)

    assert watched.collect() == {
        'node_network_carrier{device="eth0"}': 0,
        'node_network_carrier_changes_total{device="eth0"}': 2,
        'node_network_flags{device="eth0"}': 0x1002,
        'node_network_speed_bytes{device="eth0"}': 12_500_000,
        'node_network_up{device="eth0"}': 0,
        'node_network_info{device="eth0",address="",broadcast="",duplex="half",operstate="down",adminstate="down",'
        'ifalias=""}': 1,
    }


def test_manually_changed_attributes_are_updated_within_a_minute(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", mtu="1500\n")
    watched = Watched(tmp_path)
    watched.collect()
    folder = tmp_path / "sys/class/net/eth0"
    (folder / "mtu").write_text("9000\n")
    (folder / "ifalias").write_text("uplink\n")
    (folder / "netdev_group").write_text("7\n")
    watched.now += 59
    assert watched.collect()['node_network_mtu_bytes{device="eth0"}'] == 1500

    watched.now += 1
    found = watched.collect()

    assert found['node_network_mtu_bytes{device="eth0"}'] == 9000
    assert found['node_network_net_dev_group{device="eth0"}'] == 7
    assert any('ifalias="uplink"' in series for series in found)


def test_a_removed_interface_disappears_and_returns_with_its_new_values(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", ifindex="2\n")
    device(tmp_path, "veth1", operstate="up\n", ifindex="7\n")
    watched = Watched(tmp_path)
    watched.collect()

    folder = tmp_path / "sys/class/net/veth1"
    folder.rename(tmp_path / "gone")
    assert {series for series in watched.collect() if "veth1" in series} == set()

    (tmp_path / "gone/ifindex").write_text("9\n")
    (tmp_path / "gone").rename(folder)
    assert watched.collect()['node_network_iface_id{device="veth1"}'] == 9


def test_interfaces_that_swap_names_keep_their_own_values(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", ifindex="2\n", address="aa:aa\n")
    device(tmp_path, "eth1", operstate="up\n", ifindex="3\n", address="bb:bb\n")
    watched = Watched(tmp_path)
    watched.collect()
    folder = tmp_path / "sys/class/net"
    for old, new in (("eth0", "lan"), ("eth1", "eth0"), ("lan", "eth1")):
        (folder / old).rename(folder / new)

    found = watched.collect()

    assert [found[f'node_network_iface_id{{device="{name}"}}'] for name in ("eth0", "eth1")] == [3, 2]
    assert any('device="eth0",address="bb:bb"' in series for series in found)


def test_a_second_run_yields_the_same_series_in_the_same_order(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="up\n", mtu="1500\n", carrier="1\n", addr_assign_type="0\n", type="1\n")
    watched = Watched(tmp_path)

    assert list(watched.collect().items()) == list(watched.collect().items())


def test_the_devices_of_this_machine_have_an_index_and_a_state() -> None:
    found = by_series(NetworkInterfaces(Paths(), NetworkSettings()).collect())

    assert found['node_network_iface_id{device="lo"}'] == 1  # the first device of every network namespace
    assert found['node_network_up{device="lo"}'] == 0


def test_the_speed_is_exported_as_soon_as_the_link_comes_up(tmp_path: Path) -> None:
    device(tmp_path, "eth0", operstate="down\n", carrier="0\n")
    interfaces = NetworkInterfaces(host_paths(tmp_path), NetworkSettings())
    before = by_series(interfaces.collect())
    for file, text in (("operstate", "up\n"), ("carrier", "1\n"), ("speed", "1000\n"), ("duplex", "full\n")):
        (tmp_path / "sys/class/net/eth0" / file).write_text(text)

    after = by_series(interfaces.collect())

    speed = 'node_network_speed_bytes{device="eth0"}'
    assert (before.get(speed), after.get(speed)) == (None, 125_000_000)
    assert any('duplex="full"' in series for series in after)
