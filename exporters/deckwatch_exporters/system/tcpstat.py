"""TCP connections by state.

Asked of the kernel through sock_diag(7), which is much cheaper than /proc/net/tcp on a host with many connections.
A container that watches its host has no socket in the host's network namespace, and reads the files instead.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

CONNECTIONS = Gauge("node_tcp_connection_states", "TCP connections in each state.", ["state"])

#: By the kernel's number of the state (include/net/tcp_states.h).
STATES = {
    1: "established", 2: "syn_sent", 3: "syn_recv", 4: "fin_wait1", 5: "fin_wait2", 6: "time_wait", 7: "close",
    8: "close_wait", 9: "last_ack", 10: "listen", 11: "closing",
}  # fmt: skip

_NETLINK_SOCK_DIAG = 4
# The older of the two requests: it answers for IPv4 and IPv6 in one pass over the kernel's table of connections,
# which costs more than the answer does (sock_diag_rcv_msg() in net/core/sock_diag.c).
_TCPDIAG_GETSOCK = 18
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NO_SOCKET = (_NLMSG_ERROR, _NLMSG_DONE)
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=4x48xII")  # inet_diag_req with an empty socket id: idiag_states, idiag_dbs
_ALL_STATES = 0xFFF
# A header and the beginning of inet_diag_msg: length, type, idiag_state, idiag_rqueue, idiag_wqueue.
_SOCKET = struct.Struct("=IH11xB54xII")
_ERROR = struct.Struct("=i")
_TIMEOUT = struct.pack("@ll", 2, 0)  # struct timeval: two seconds; the kernel answers at once


class SocketStates:
    def __init__(self, paths: Paths) -> None:
        self._own_host = paths.proc == "/proc"
        self._folder = paths.in_proc("net")

    def collect(self) -> Iterator[Sample]:
        counts = ask_kernel() if self._own_host else None
        if counts is None:
            counts = self._from_files()
        for state, count in counts.items():
            yield CONNECTIONS(count, state=state)

    def _from_files(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for file in ("tcp", "tcp6"):
            try:
                counts.update(parse_net_tcp(read_text(f"{self._folder}/{file}")))
            except FileNotFoundError:
                continue  # without IPv6 there is no such file
        if not counts:
            raise NotAvailable  # neither file: nothing is known, not even that there is no connection
        return counts


def _nothing() -> Counter[str]:
    """No connection in any state: that is known, and so it is 0 and not absent."""
    return Counter(dict.fromkeys([*STATES.values(), "rx_queued_bytes", "tx_queued_bytes"], 0))


def ask_kernel() -> Counter[str] | None:
    """Connections by state, and the bytes that wait in their queues; None where sock_diag is not to be had."""
    counts = _nothing()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as diag:
            # The kernel's own timeout: with settimeout() every call would be two, poll(2) first.
            diag.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
            length = _HEADER.size + _REQUEST.size
            header = _HEADER.pack(length, _TCPDIAG_GETSOCK, _NLM_F_REQUEST_DUMP, 0, 0)
            diag.send(header + _REQUEST.pack(_ALL_STATES, 0))
            while (ended := count_replies(diag.recv(65536), counts)) is False:
                pass
    except OSError:
        return None
    return counts if ended else None


def count_replies(message: bytes, counts: Counter[str]) -> bool | None:
    """Add one datagram's sockets to `counts`. True at the end of the answer, None when the kernel refuses it."""
    position, end = 0, len(message)
    # There may be ten thousands of sockets, of different lengths (TIME_WAIT has fewer attributes): what is done for
    # each is kept to the least, and states are counted all at once.
    states = bytearray()
    received = sent = 0
    last = end - _SOCKET.size
    while position <= last:
        length, kind, state, receive, send = _SOCKET.unpack_from(message, position)
        if kind in _NO_SOCKET or length < _SOCKET.size or position + length > end:
            break
        states.append(state)
        received += receive
        sent += send
        position += (length + 3) & ~3
    for state, count in Counter(states).items():
        counts[STATES.get(state, "unknown")] += count
    counts["rx_queued_bytes"] += received
    counts["tx_queued_bytes"] += sent
    if position + _HEADER.size > end:
        return False  # all of it were sockets: there are more to come
    if _HEADER.unpack_from(message, position)[1] != _NLMSG_DONE:
        return None
    # An end may be a refusal too: ENOENT where the module tcp_diag is not there and cannot be loaded.
    error = position + _HEADER.size
    if error + _ERROR.size <= end and _ERROR.unpack_from(message, error)[0] < 0:
        return None
    return True


def parse_net_tcp(text: str) -> Counter[str]:
    """The same from /proc/net/tcp. Raises ValueError."""
    counts = _nothing()
    for line in filter(None, text.split("\n")[1:]):
        try:
            _, _, _, state, queues, *_ = line.split()
            send, receive = (int(queue, 16) for queue in queues.split(":"))
            counts[STATES.get(int(state, 16), "unknown")] += 1
        except ValueError:
            raise ValueError(f"/proc/net/tcp: not a socket: {line[:80]!r}") from None
        counts["rx_queued_bytes"] += receive
        counts["tx_queued_bytes"] += send
    return counts
