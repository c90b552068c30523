"""Sockets in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.sockstat import Sockstat, parse_sockstat

from .support import by_series, host_paths

SOCKSTAT = "sockets: used 14\nTCP: inuse 4 orphan 0 tw 2 alloc 5 mem 432\nFRAG: inuse 0 memory 0\n"


def test_sockets_of_both_ip_versions_and_memory_in_pages_and_bytes_are_exported(tmp_path: Path) -> None:
    folder = tmp_path / "proc/net"
    folder.mkdir(parents=True)
    (folder / "sockstat").write_text(SOCKSTAT)
    (folder / "sockstat6").write_text("TCP6: inuse 3\n")

    assert by_series(Sockstat(host_paths(tmp_path)).collect()) == {
        "node_sockstat_sockets_used": 14,
        "node_sockstat_TCP_inuse": 4,
        "node_sockstat_TCP_orphan": 0,
        "node_sockstat_TCP_tw": 2,
        "node_sockstat_TCP_alloc": 5,
        "node_sockstat_TCP_mem": 432,
        "node_sockstat_TCP_mem_bytes": 432 * os.sysconf("SC_PAGE_SIZE"),
        "node_sockstat_FRAG_inuse": 0,
        "node_sockstat_FRAG_memory": 0,  # already in bytes
        "node_sockstat_TCP6_inuse": 3,
    }


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("TCP: inuse", {}),
        ("TCP: inuse many tw 2", {"TCP_tw": 2}),
        ("TCP: inuse 1 orphan", {"TCP_inuse": 1}),
        ("TCP: inuse orphan 0 tw 2", {"TCP_orphan": 0, "TCP_tw": 2}),
        ("TCP: inuse -1 tw 2", {"TCP_tw": 2}),
        ("TCP: 4 orphan 0", {"TCP_orphan": 0}),
        ("TCP: inuse 1 inuse 2", {"TCP_inuse": 1}),
        ("TCP inuse 1", {}),
    ],
)
def test_a_malformed_field_affects_only_its_series(line: str, values: dict[str, int]) -> None:
    found: dict[str, int] = {}
    malformed = MalformedValues()
    parse_sockstat(line + "\nUDP: inuse 3\n", "/proc/net/sockstat", found, malformed)

    assert found == {**values, "UDP_inuse": 3}
    assert malformed


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    found: dict[str, int] = {}
    parse_sockstat(text, "/proc/net/sockstat", found, MalformedValues())

    assert all(value >= 0 for value in found.values())
