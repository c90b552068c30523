"""TCP connections by state."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system import tcpstat
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.tcpstat import SocketStates, count_replies, parse_net_tcp, query_kernel

from .support import by_series, host_paths, malformed

HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = HEADING + (
    "   0: 00000000:07E8 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 1654 1 0 100 0 0 10 0\n"
    "   1: 0100007F:8F4F 0100007F:B3DC 06 00000000:00000000 03:00000D9C 00000000     0        0 0 3 0\n"
    "   2: 0100007F:8F50 0100007F:B3DD 01 00000010:00000A00 03:00000D9C 00000000     0        0 0 3 0\n"
)
ENOENT = 2
DONE, ERROR = 3, 2


def diag_message(state: int, receive: int = 0, send: int = 0, attributes: bytes = b"") -> bytes:
    """One socket as in sock_diag(7): nlmsghdr, inet_diag_msg, attributes, aligned to 4 bytes."""
    body = struct.pack("=BBBB48xIIIII", socket.AF_INET, state, 0, 0, 0, receive, send, 0, 0) + attributes
    message = struct.pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body
    return message + bytes(-len(message) % 4)


def end(code: int = 0, kind: int = DONE) -> bytes:
    return struct.pack("=IHHIIi", 20, kind, 0, 0, 0, code)


def listening(family: socket.AddressFamily) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    except OSError as fault:
        listener.close()
        pytest.skip(f"no {family.name} here: {fault}")
    listener.listen()
    return listener


def local_sockets(port: int) -> Counter[str]:
    """Return the states of the sockets with this port at either end, from /proc/net/tcp and tcp6."""
    found: Counter[str] = Counter()
    for file in ("tcp", "tcp6"):
        for line in (Path("/proc/net") / file).read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if f"{port:04X}" in (local.rpartition(":")[2], remote.rpartition(":")[2]):
                found[tcpstat.STATES[int(state, 16)]] += 1
    return found


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernels_reply_contains_a_hundred_real_sockets(family: socket.AddressFamily) -> None:
    with listening(family) as listener:
        clients = [socket.create_connection(listener.getsockname()[:2]) for _ in range(50)]
        servers = [listener.accept()[0] for _ in clients]
        try:
            clients[0].sendall(b"x" * 1000)  # never read
            counted = query_kernel()
            mine = local_sockets(listener.getsockname()[1])
        finally:
            for one in clients + servers:
                one.close()

    del mine["time_wait"]  # of an earlier process on the same port
    assert mine == {"listen": 1, "established": 100}
    assert counted is not None
    # Other processes may open and close sockets meanwhile, so check only a minimum.
    assert counted["established"] >= 100
    assert counted["listen"] >= 1
    assert counted["rx_queued_bytes"] >= 1000


def test_netlink_and_proc_files_agree_on_a_state_that_no_other_process_uses() -> None:
    # CLOSE_WAIT: the peer has closed the connection, this end has not.
    with listening(socket.AF_INET) as listener:
        before = query_kernel()
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
        with server:
            client.close()
            assert server.recv(1) == b""  # the FIN has arrived, so the state has changed
            after = query_kernel()
            states = local_sockets(listener.getsockname()[1])

    assert states["close_wait"] == 1
    assert before is not None
    assert after is not None
    assert after["close_wait"] >= 1


def test_another_host_tree_is_read_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "proc/net"
    folder.mkdir(parents=True)
    (folder / "tcp").write_text(TCP)
    (folder / "tcp6").write_text(TCP)

    found = by_series(SocketStates(host_paths(tmp_path)).collect())

    assert {series.split('"')[1]: value for series, value in found.items() if value} == {
        "listen": 2,
        "time_wait": 2,
        "established": 2,
        "rx_queued_bytes": 2 * 0xA03,
        "tx_queued_bytes": 2 * 0x10,
    }


def test_a_state_without_connections_is_0_because_the_reply_is_complete(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(TCP)

    assert by_series(SocketStates(host_paths(tmp_path)).collect())['node_tcp_connection_states{state="syn_recv"}'] == 0


def test_a_host_without_either_file_has_no_states_rather_than_zeros(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(SocketStates(host_paths(tmp_path)).collect())


def test_the_files_are_read_if_netlink_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    with listening(socket.AF_INET):
        monkeypatch.setattr("deckwatch_exporters.system.tcpstat.socket.socket", refused)
        found = by_series(SocketStates(Paths()).collect())

    assert query_kernel() is None
    assert found['node_tcp_connection_states{state="listen"}'] >= 1


def test_sockets_are_counted_over_several_datagrams_until_the_end_message() -> None:
    counts: Counter[str] = Counter()

    first = count_replies(diag_message(1, receive=5) + diag_message(10, send=128, attributes=b"\5\0\10\0\0"), counts)
    last = count_replies(diag_message(1) + end(), counts)

    assert [first, last] == [False, True]
    assert counts == {"established": 2, "listen": 1, "rx_queued_bytes": 5, "tx_queued_bytes": 128}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 255),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=40),  # of any length: messages are still aligned to four bytes
        ),
        max_size=30,
    )
)
def test_sockets_with_attributes_of_any_length_are_all_counted(sockets: list[tuple[int, int, int, bytes]]) -> None:
    counts: Counter[str] = Counter()

    ended = count_replies(b"".join(diag_message(*one) for one in sockets) + end(), counts)

    assert ended
    states = Counter(tcpstat.STATES.get(state, "unknown") for state, *_ in sockets)
    assert {state: count for state, count in counts.items() if not state.endswith("bytes")} == states
    assert counts["rx_queued_bytes"] == sum(receive for _, receive, _, _ in sockets)
    assert counts["tx_queued_bytes"] == sum(send for _, _, send, _ in sockets)


@pytest.mark.parametrize("sockets", [0, 1, 300])
def test_a_malformed_message_after_valid_ones_is_an_error(sockets: int) -> None:
    good = diag_message(6) * sockets
    too_long = struct.pack("=IHHII", 4000, 20, 0, 0, 0) + bytes(72)
    too_short = struct.pack("=IHHII", 40, 20, 0, 0, 0) + bytes(72)

    assert [count_replies(good + broken, Counter()) for broken in (too_long, too_short, diag_message(1)[:70])] == [
        None,
        None,
        None,
    ]


def test_messages_after_the_end_message_are_not_counted() -> None:
    counts: Counter[str] = Counter()

    assert count_replies(diag_message(10) + end() + diag_message(1) * 3, counts)
    assert counts["established"] == 0


@pytest.mark.parametrize(
    "refusal",
    [
        end(-ENOENT),  # the module tcp_diag is missing
        end(-ENOENT, kind=ERROR),
        diag_message(1)[:40],  # truncated
        struct.pack("=IHHII", 0, 20, 0, 0, 0),  # would loop forever
    ],
)
def test_an_error_or_malformed_reply_is_not_a_host_without_connections(refusal: bytes) -> None:
    assert count_replies(refusal, Counter()) is None


@given(st.binary(max_size=400))
def test_parsing_any_reply_terminates(message: bytes) -> None:
    assert count_replies(message, Counter()) in (True, False, None)


@pytest.mark.parametrize(
    ("line", "state", "queues"),
    [
        ("0: a b 0A", "listen", set()),
        ("0: a b 0A 00000000", "listen", set()),
        ("0: a b zz 0:0", "unknown", {"tx_queued_bytes", "rx_queued_bytes"}),
        ("0: a b 0A x:0", "listen", {"rx_queued_bytes"}),
        ("0:", "unknown", set()),
    ],
)
def test_a_malformed_field_affects_only_dependent_series(
    line: str, state: str, queues: set[str], tmp_path: Path
) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(HEADING + line + "\n")

    found = list(SocketStates(host_paths(tmp_path)).collect())

    counts = {series.split('"')[1]: value for series, value in by_series(found).items()}
    assert counts[state] == 1
    assert {name for name in counts if name.endswith("_bytes")} == queues
    assert malformed(found)


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    counts: Counter[str] = Counter()
    parse_net_tcp(HEADING + text, "/proc/net/tcp", counts, MalformedValues())

    assert all(count >= 0 for count in counts.values())
