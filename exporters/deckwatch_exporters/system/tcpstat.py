"""TCP connections by state.

Asked of the kernel through sock_diag(7), which is much cheaper than /proc/net/tcp on a host with many connections.
A container that watches its host has no socket in the host's network namespace, and reads the files instead.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING

from deckwatch.metric import gauge

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

CONNECTIONS = gauge("node_tcp_connection_states", "TCP connections in each state.", ["state"])

#: By the kernel's number of the state (include/net/tcp_states.h).
STATES = {
    1: "established", 2: "syn_sent", 3: "syn_recv", 4: "fin_wait1", 5: "fin_wait2", 6: "time_wait", 7: "close",
    8: "close_wait", 9: "last_ack", 10: "listen", 11: "closing",
}  # fmt: skip

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")  # inet_diag_req_v2 with an empty socket id
_REPLY = struct.Struct("=BBBB")  # how inet_diag_msg begins: family, state, ...
_QUEUES = struct.Struct("=II")
_QUEUES_AT = _HEADER.size + 56  # idiag_rqueue, idiag_wqueue; behind four bytes, the socket id and the expiry
_TIMEOUT = 2.0  # seconds; the kernel answers at once


class SocketStates:
    def __init__(self, paths: Paths) -> None:
        self._own_host = paths.proc == "/proc"
        self._folder = paths.in_proc("net")

    def collect(self) -> Iterator[Sample]:
        counts = ask_kernel() if self._own_host else None
        if counts is None:
            counts = _nothing()
            for file in ("tcp", "tcp6"):
                try:
                    counts.update(parse_net_tcp(read_text(f"{self._folder}/{file}")))
                except FileNotFoundError:
                    continue  # without IPv6 there is no such file
        for state, count in counts.items():
            yield CONNECTIONS(count, state=state)


def _nothing() -> Counter[str]:
    """No connection in any state: that is known, and so it is 0 and not absent."""
    return Counter(dict.fromkeys([*STATES.values(), "rx_queued_bytes", "tx_queued_bytes"], 0))


def ask_kernel() -> Counter[str] | None:
    """Connections by state, and the bytes that wait in their queues; None where sock_diag is not to be had."""
    counts = _nothing()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as diag:
            diag.settimeout(_TIMEOUT)
            for family in (socket.AF_INET, socket.AF_INET6):
                body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0xFFF)
                length = _HEADER.size + len(body)
                diag.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, family, 0) + body)
                while True:
                    ended = count_replies(diag.recv(65536), counts)
                    if ended is None:
                        return None
                    if ended:
                        break
    except OSError:
        return None
    return counts


def count_replies(message: bytes, counts: Counter[str]) -> bool | None:
    """Add one datagram's sockets to `counts`. True at the end of the answer, None when the kernel refuses it."""
    position = 0
    while position + _HEADER.size <= len(message):
        length, kind, *_ = _HEADER.unpack_from(message, position)
        if kind == _NLMSG_DONE:
            return True
        if kind == _NLMSG_ERROR or length < _QUEUES_AT + _QUEUES.size:
            return None
        _, state, *_ = _REPLY.unpack_from(message, position + _HEADER.size)
        receive, send = _QUEUES.unpack_from(message, position + _QUEUES_AT)
        counts[STATES.get(state, "unknown")] += 1
        counts["rx_queued_bytes"] += receive
        counts["tx_queued_bytes"] += send
        position += (length + 3) & ~3
    return False


def parse_net_tcp(text: str) -> Counter[str]:
    """The same from /proc/net/tcp. Raises ValueError."""
    counts = _nothing()
    for line in filter(None, text.split("\n")[1:]):
        fields = line.split()
        if len(fields) < 5:
            raise ValueError(f"/proc/net/tcp: not a socket: {line[:80]!r}")
        send, _, receive = fields[4].partition(":")
        counts[STATES.get(int(fields[3], 16), "unknown")] += 1
        counts["rx_queued_bytes"] += int(receive, 16)
        counts["tx_queued_bytes"] += int(send, 16)
    return counts
