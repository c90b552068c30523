"""TCP connections by state.

The kernel is queried through sock_diag(7), which is much cheaper than /proc/net/tcp on a host with many connections.
A container that monitors its host has no socket in the network namespace of the host, and reads the files instead.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .parse_numbers import MalformedValues, parse_hexadecimal
from .paths import Paths, read_text

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

CONNECTIONS = Gauge("node_tcp_connection_states", "Number of TCP connections in each state.", ["state"])

#: By the kernel's constant (include/net/tcp_states.h).
STATES = {
    1: "established", 2: "syn_sent", 3: "syn_recv", 4: "fin_wait1", 5: "fin_wait2", 6: "time_wait", 7: "close",
    8: "close_wait", 9: "last_ack", 10: "listen", 11: "closing",
}  # fmt: skip
_QUEUES = ("rx_queued_bytes", "tx_queued_bytes")

_NETLINK_SOCK_DIAG = 4
# The older of the two requests: it covers IPv4 and IPv6 in one pass over the kernel's table of connections, which is
# the expensive part (sock_diag_rcv_msg() in net/core/sock_diag.c).
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
_TIMEOUT = struct.pack("@ll", 2, 0)  # struct timeval: two seconds; the kernel normally replies at once


class SocketStates:
    def __init__(self, paths: Paths) -> None:
        self._own_host = paths.proc == "/proc"
        self._folder = paths.in_proc("net")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        counts = query_kernel() if self._own_host else None
        if counts is None:
            counts = self._from_files(malformed)
        for state, count in counts.items():
            yield CONNECTIONS(count, state=state)
        yield from malformed

    def _from_files(self, malformed: MalformedValues) -> Counter[str]:
        counts = _no_connections()
        found = False
        for file in ("tcp", "tcp6"):
            try:
                text = read_text(f"{self._folder}/{file}")
            except FileNotFoundError:
                continue  # tcp6 does not exist without IPv6
            found = True
            parse_net_tcp(text, f"/proc/net/{file}", counts, malformed)
        if not found:
            raise NotAvailable
        for queue in _QUEUES:
            if any(value.what.endswith(queue) for value in malformed):
                del counts[queue]  # the sum would be too small
        return counts


def _no_connections() -> Counter[str]:
    """A count of 0 for every state."""
    return Counter(dict.fromkeys([*STATES.values(), *_QUEUES], 0))


def query_kernel() -> Counter[str] | None:
    """Query connections by state and the bytes in their queues from the kernel; None if sock_diag is not available."""
    counts = _no_connections()
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as diag:
            # With settimeout(), each call would be preceded by poll(2).
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
    """Add the sockets of one datagram to `counts`. True at the end of the reply, None if the kernel refuses it."""
    position, end = 0, len(message)
    # There may be tens of thousands of sockets, of different lengths (TIME_WAIT has fewer attributes): the loop does as
    # little as possible, and states are counted afterwards.
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
        return False  # the datagram holds only sockets: more datagrams follow
    if _HEADER.unpack_from(message, position)[1] != _NLMSG_DONE:
        return None
    # NLMSG_DONE can also carry an error: ENOENT if the module tcp_diag is missing and cannot be loaded.
    error = position + _HEADER.size
    if error + _ERROR.size <= end and _ERROR.unpack_from(message, error)[0] < 0:
        return None
    return True


def parse_net_tcp(text: str, file: str, counts: Counter[str], malformed: MalformedValues) -> None:
    """Add the sockets in /proc/net/tcp or tcp6 to `counts`. A queue with a malformed size is left out of its total."""
    for line in dict.fromkeys(text.split("\n")):
        fields = line.split()
        if not fields or "local_address" in fields:
            continue
        fields += [""] * (5 - len(fields))
        number = parse_hexadecimal(fields[3], f"{file}: state", malformed)
        counts["unknown" if number is None else STATES.get(number, "unknown")] += 1
        send, colon, receive = fields[4].partition(":")
        for queue, word in zip(_QUEUES, (receive, send), strict=True):
            size = parse_hexadecimal(word if colon else "", f"{file}: {queue}", malformed)
            if size is not None:
                counts[queue] += size
