"""Protocol counters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.netstat import Netstat, NetstatSettings, field_names, parse_netstat, parse_snmp6
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import by_series, host_paths, malformed

NETSTAT = """\
TcpExt: SyncookiesSent TW ListenOverflows TCPOFOQueue TCPRcvQDrop
TcpExt: 1 2 3 4 5
IpExt: InNoRoutes InOctets
IpExt: 6 385282353
"""
SNMP = """\
Ip: Forwarding DefaultTTL
Ip: 2 64
Tcp: RtoMin MaxConn CurrEstab InErrs
Tcp: 200 -1 7 8
UdpLite: InDatagrams InErrors
UdpLite: 9 10
"""
SNMP6 = """\
Ip6InReceives                   \t11
Ip6InOctets                     \t12
Icmp6InMsgs                     \t13
UdpLite6InErrors                \t14
"""
EXPECTED = {
    "node_netstat_TcpExt_SyncookiesSent": 1,
    "node_netstat_TcpExt_ListenOverflows": 3,
    "node_netstat_TcpExt_TCPOFOQueue": 4,
    "node_netstat_TcpExt_TCPRcvQDrop": 5,
    "node_netstat_IpExt_InOctets": 385282353,
    "node_netstat_Ip_Forwarding": 2,
    "node_netstat_Tcp_MaxConn": -1,
    "node_netstat_Tcp_CurrEstab": 7,
    "node_netstat_Tcp_InErrs": 8,
    "node_netstat_UdpLite_InErrors": 10,
    "node_netstat_Ip6_InOctets": 12,
    "node_netstat_Icmp6_InMsgs": 13,
    "node_netstat_UdpLite6_InErrors": 14,
}


def host(tree: Path, netstat: str = NETSTAT, snmp: str = SNMP, snmp6: str | None = SNMP6) -> Path:
    folder = tree / "proc/net"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("netstat", netstat), ("snmp", snmp), ("snmp6", snmp6)):
        if text is not None:
            (folder / name).write_text(text)
    return tree


def test_the_fields_that_dashboards_use_are_exported_by_default_and_no_others(tmp_path: Path) -> None:
    assert by_series(Netstat(host_paths(host(tmp_path)), NetstatSettings()).collect()) == EXPECTED


def test_the_exported_fields_are_configurable(tmp_path: Path) -> None:
    settings = NetstatSettings.model_validate({"fields": "^(Ip_DefaultTTL|Ip6_InReceives)$"})

    found = by_series(Netstat(host_paths(host(tmp_path)), settings).collect())

    assert found == {"node_netstat_Ip_DefaultTTL": 64, "node_netstat_Ip6_InReceives": 11}


def test_columns_that_move_between_two_runs_are_still_matched_by_name(tmp_path: Path) -> None:
    # IcmpMsg has only the types seen so far, so the line grows over time.
    settings = NetstatSettings.model_validate({"fields": "^IcmpMsg_InType8$"})
    collector = Netstat(host_paths(host(tmp_path, snmp="IcmpMsg: InType8\nIcmpMsg: 5\n")), settings)
    before = by_series(collector.collect())
    host(tmp_path, snmp="IcmpMsg: InType3 InType8\nIcmpMsg: 1 6\n")

    assert [before, by_series(collector.collect())] == [
        {"node_netstat_IcmpMsg_InType8": 5},
        {"node_netstat_IcmpMsg_InType8": 6},
    ]


def test_a_host_without_ipv6_has_no_ipv6_fields(tmp_path: Path) -> None:
    found = by_series(Netstat(host_paths(host(tmp_path, snmp6=None)), NetstatSettings()).collect())

    assert found == {name: value for name, value in EXPECTED.items() if "6_" not in name}


def test_a_kernel_without_networking_has_no_counters_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Netstat(host_paths(tmp_path), NetstatSettings()).collect())


def test_a_malformed_value_affects_only_its_series(tmp_path: Path) -> None:
    tree = host(tmp_path, snmp="Tcp: InSegs OutSegs MaxConn\nTcp: many 5 -1\n")

    found = list(Netstat(host_paths(tree), NetstatSettings()).collect())

    assert "node_netstat_Tcp_InSegs" not in by_series(found)
    assert by_series(found)["node_netstat_Tcp_OutSegs"] == 5
    assert by_series(found)["node_netstat_Tcp_MaxConn"] == -1
    assert malformed(found) == [("/proc/net/snmp: Tcp_InSegs", "many")]


def test_only_the_first_value_of_a_repeated_field_is_used(tmp_path: Path) -> None:
    tree = host(tmp_path, snmp="Tcp: InSegs InSegs\nTcp: 5 6\n")

    found = list(Netstat(host_paths(tree), NetstatSettings()).collect())

    assert by_series(found)["node_netstat_Tcp_InSegs"] == 5
    assert malformed(found) == [("/proc/net/snmp: Tcp_InSegs", "6")]


@pytest.mark.parametrize(
    "text",
    ["Tcp: InSegs OutSegs\nTcp: 1\n", "Tcp: InSegs\nTcpExt: 1\n", "Tcp: InSegs\n", "Tcp: 1\n", "rest\n"],
)
def test_names_without_values_are_skipped_and_other_protocols_are_exported(text: str) -> None:
    values = MalformedValues()

    assert parse_netstat(f"Ip: Forwarding\nIp: 1\n{text}Udp: NoPorts\nUdp: 2\n", "snmp", values) == [
        ("Ip: Forwarding", ["1"]),
        ("Udp: NoPorts", ["2"]),
    ]
    assert {what for what, _ in values} == {"snmp"}


@given(st.text(alphabet=st.sampled_from("Tcp: 1a\n")) | st.text())
def test_any_text_can_be_parsed_into_equal_numbers_of_names_and_values(text: str) -> None:
    protocols = parse_netstat(text, "snmp", MalformedValues())

    assert all(len(field_names(names)) == len(words) for names, words in protocols)


@given(st.text())
def test_any_snmp6_can_be_parsed_and_gives_only_ipv6_fields(text: str) -> None:
    assert all("6_" in name for name, _ in parse_snmp6(text))
