"""Queues of UDP sockets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.udp_queues import UdpQueues, parse_udp

from .support import by_series, host_paths, only_samples

HEADING = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
UDP = HEADING + (
    "  100: 00000000:0044 00000000:0000 07 00000010:00000A00 00:00000000 00000000     0        0 4711 2 0 0\n"
    "  101: 0100007F:0035 00000000:0000 07 00000001:00000001 00:00000000 00000000     0        0 4712 2 0 0\n"
)


def test_queued_bytes_are_summed_over_all_sockets_of_an_ip_version(tmp_path: Path) -> None:
    folder = tmp_path / "proc/net"
    folder.mkdir(parents=True)
    (folder / "udp").write_text(UDP)
    (folder / "udp6").write_text(HEADING)

    assert by_series(UdpQueues(host_paths(tmp_path)).collect()) == {
        'node_udp_queues{queue="tx",ip="v4"}': 0x11,
        'node_udp_queues{queue="rx",ip="v4"}': 0xA01,
        'node_udp_queues{queue="tx",ip="v6"}': 0,
        'node_udp_queues{queue="rx",ip="v6"}': 0,
    }


def test_a_host_without_ipv6_has_no_ipv6_series(tmp_path: Path) -> None:
    folder = tmp_path / "proc/net"
    folder.mkdir(parents=True)
    (folder / "udp").write_text(UDP)

    assert {dict(s.series.labels)["ip"] for s in only_samples(UdpQueues(host_paths(tmp_path)).collect())} == {"v4"}


@pytest.mark.parametrize(
    ("line", "sizes"),
    [
        ("100: 0:0 0:0 07", {}),
        ("100: 0:0 0:0 07 10", {}),
        ("100: 0:0 0:0 07 xx:10", {"rx": 0x10}),
    ],
)
def test_a_sum_with_a_malformed_size_is_absent(line: str, sizes: dict[str, int]) -> None:
    malformed = MalformedValues()

    assert parse_udp(f"{HEADING}{line}\n", "/proc/net/udp", malformed) == sizes
    assert malformed


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    assert all(size >= 0 for size in parse_udp(HEADING + text, "/proc/net/udp", MalformedValues()).values())
