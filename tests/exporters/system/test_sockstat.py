"""Sockets in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.sockstat import Sockstat, parse_sockstat

from .support import by_series, host_paths

SOCKSTAT = "sockets: used 14\nTCP: inuse 4 orphan 0 tw 2 alloc 5 mem 432\nFRAG: inuse 0 memory 0\n"


def test_sockets_of_both_ip_versions_are_exported_and_memory_in_pages_as_bytes_too(tmp_path: Path) -> None:
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
        "node_sockstat_FRAG_memory": 0,  # bytes already
        "node_sockstat_TCP6_inuse": 3,
    }


@pytest.mark.parametrize("line", ["TCP: inuse", "TCP: inuse many", "TCP: inuse 1 orphan"])
def test_a_line_that_is_not_names_and_figures_in_turn_is_named_in_the_error(line: str) -> None:
    with pytest.raises(ValueError, match=f"^/proc/net/sockstat: not names and figures in turn: '{line}'$"):
        parse_sockstat(line)


@given(st.text())
def test_any_text_is_figures_or_a_value_error_that_names_the_file(text: str) -> None:
    complaint = ""
    try:
        assert all(isinstance(value, int) for value in parse_sockstat(text).values())
    except ValueError as fault:
        complaint = str(fault)
    assert not complaint or complaint.startswith("/proc/net/sockstat: ")
