"""Queries to the running kernel: sockets by state, the clock, and watched processes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.cpu import Cpu
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.paths import Paths, read_text
from deckwatch_exporters.system.tcpstat import SocketStates, count_replies, parse_net_tcp, query_kernel
from deckwatch_exporters.system.timex import Timex
from deckwatch_exporters.system.watched import ProcessGroup, WatchedProcesses
from services import until

from .support import by_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Result = TypeVar("Result")

_CLONE_NEWNET, _SIOCSIFFLAGS, _IFF_UP = 0x40000000, 0x8914, 1


def in_a_network_of_its_own(look: Callable[[], Result]) -> Result:
    """Return the result of `look` in a thread with a separate network namespace, without other sockets."""

    def run() -> Result:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):  # only for this thread, and removed with it
            pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        return look()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


LISTENING = 'node_tcp_connection_states{state="listen"}'
ESTABLISHED = 'node_tcp_connection_states{state="established"}'


def test_listening_and_established_sockets_are_counted_by_the_kernel() -> None:
    def look() -> tuple[dict[str, float], dict[str, float]]:
        before = by_series(SocketStates(Paths()).collect())
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            return before, by_series(SocketStates(Paths()).collect())

    before, during = in_a_network_of_its_own(look)

    assert (before.get(LISTENING, 0), before.get(ESTABLISHED, 0)) == (0, 0)
    assert (during[LISTENING], during[ESTABLISHED]) == (1, 2)


def test_unread_data_is_counted_in_bytes() -> None:
    def look() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            client.sendall(b"x" * 1000)
            until(lambda: (query_kernel() or Counter())["rx_queued_bytes"] == 1000)
            accepted.close()

    in_a_network_of_its_own(look)


def test_the_proc_files_agree_with_netlink() -> None:
    def look() -> tuple[Counter[str], Counter[str] | None]:
        files: Counter[str] = Counter()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            for file in ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"):
                parse_net_tcp(read_text(file), file, files, MalformedValues())
            return files, query_kernel()

    files, asked = in_a_network_of_its_own(look)

    assert asked is not None
    assert (files["listen"], files["established"]) == (asked["listen"], asked["established"]) == (1, 2)


@given(st.binary())
def test_any_reply_of_the_kernel_is_counted_or_rejected(message: bytes) -> None:
    counts: Counter[str] = Counter()
    assert count_replies(message, counts) in (True, False, None)


def test_the_clock_is_exported() -> None:
    series = by_series(Timex().collect())

    assert 0 < series["node_timex_tick_seconds"] < 1
    assert series["node_timex_sync_status"] in (0, 1)
    assert 0.5 < series["node_timex_frequency_adjustment_ratio"] < 1.5


def test_cpu_counters_never_decrease_when_the_kernels_do(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    cpu = Cpu(Paths(proc=str(tmp_path), sys=str(tmp_path)))
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 10 0 10 1000 500 0 0 0 0 0\n")
    first = by_series(cpu.collect())
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 11 0 10 1001 400 0 0 0 0 0\n")
    second = by_series(cpu.collect())

    assert all(second[name] >= value for name, value in first.items())
    assert second['node_cpu_seconds_total{cpu="0",mode="user"}'] > first['node_cpu_seconds_total{cpu="0",mode="user"}']


def test_a_restarted_cpu_has_its_own_counters(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    cpu = Cpu(Paths(proc=str(tmp_path), sys=str(tmp_path)))
    stat.write_text("cpu0 10 0 10 100000 500 0 0 0 0 0\n")
    by_series(cpu.collect())
    stat.write_text("cpu0 1 0 1 5 0 0 0 0 0 0\n")

    assert by_series(cpu.collect())['node_cpu_seconds_total{cpu="0",mode="user"}'] == 1 / os.sysconf("SC_CLK_TCK")


# Watched processes

BUSY = "import sys, time\nwhile True:\n for _ in range(100000): pass\n time.sleep(0.001)  # {}"


class Workers:
    """Real processes of a group, identified by a word in their command line."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", BUSY.format(self.word), self.word])
        self.running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def stop_all(self) -> None:
        for process in list(self.running):
            self.stop(process)


def test_group_counters_do_not_decrease_when_a_process_ends_and_restarts_are_counted() -> None:
    workers = Workers(f"deckwatch-test-{os.getpid()}-{threading.get_ident()}")
    watched = WatchedProcesses(Paths(), [ProcessGroup.model_validate({"name": "w", "match": workers.word})])
    cpu = 'namedprocess_namegroup_cpu_seconds_total{groupname="w",mode="user"}'
    number = 'namedprocess_namegroup_num_procs{groupname="w"}'
    restarts = 'deckwatch_process_restarts_total{groupname="w"}'
    try:
        first = workers.start()
        until(lambda: by_series(watched.collect())[number] == 1)
        used = until(lambda: by_series(watched.collect())[cpu])
        workers.stop(first)
        gone = by_series(watched.collect())
        assert gone[number] == 0
        assert gone[cpu] >= used
        assert gone[restarts] == 0
        assert not any("memory" in name for name in gone)

        workers.start()
        back = until(lambda: (s := by_series(watched.collect()))[number] == 1 and s)

        assert back is not False
        assert back[restarts] == 1
        assert back[cpu] >= used
        # A process that has just started has read little of its program.
        resident = 'namedprocess_namegroup_memory_bytes{groupname="w",memtype="resident"}'
        until(lambda: by_series(watched.collect())[resident] > 1_000_000, what="the memory of the started program")
    finally:
        workers.stop_all()


def test_a_process_belongs_to_the_first_group_that_matches() -> None:
    workers = Workers(f"deckwatch-first-{os.getpid()}")
    groups = [ProcessGroup.model_validate({"name": name, "match": workers.word}) for name in ("one", "two")]
    try:
        workers.start()
        series = until(
            lambda: (
                (s := by_series(WatchedProcesses(Paths(), groups).collect()))[
                    'namedprocess_namegroup_num_procs{groupname="one"}'
                ]
                and s
            )
        )
        assert isinstance(series, dict)
        assert series['namedprocess_namegroup_num_procs{groupname="two"}'] == 0
    finally:
        workers.stop_all()


@pytest.mark.parametrize("command", ["exec -a {word} sleep 100", 'exec sh -c ": {word}; sleep 100; :"'])
def test_a_process_is_matched_again_after_an_exec(command: str) -> None:
    word = f"deckwatch-exec-{os.getpid()}"
    script = f"read -r ignored; w=-exec-{os.getpid()}; {command.replace('{word}', 'deckwatch$w')}"
    watched = WatchedProcesses(Paths(), [ProcessGroup.model_validate({"name": "w", "match": word})], clock=lambda: 0.0)
    number = 'namedprocess_namegroup_num_procs{groupname="w"}'
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE) as process:
        try:
            for _ in range(3):
                assert by_series(watched.collect())[number] == 0
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()

            until(lambda: by_series(watched.collect())[number])
        finally:
            process.kill()


def test_a_process_that_overwrites_its_command_line_is_matched_again_at_the_next_refresh(tmp_path: Path) -> None:
    stat = "7 (worker) S 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 50 1000 10\n"
    (tmp_path / "7").mkdir()
    (tmp_path / "stat").write_text("btime 1700000000\n")
    (tmp_path / "7/stat").write_text(stat.replace("\n", " 0" * 30 + "\n"))
    (tmp_path / "7/cmdline").write_text("starting")
    now = [0.0]
    watched = WatchedProcesses(
        Paths(proc=str(tmp_path)), [ProcessGroup.model_validate({"name": "w", "match": "ready"})], lambda: now[0]
    )
    number = 'namedprocess_namegroup_num_procs{groupname="w"}'
    for _ in range(2):
        assert by_series(watched.collect())[number] == 0
    (tmp_path / "7/cmdline").write_text("ready")
    now[0] = 15.0

    assert by_series(watched.collect())[number] == 1
