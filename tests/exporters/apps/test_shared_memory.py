"""Values in shared memory: what real processes write under adverse conditions, as the agent reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from counting_app import APP, collect, files, orders, run, start
from deckwatch.exporter import Sample
from deckwatch.testing import opened
from deckwatch_exporters.apps import EXPORTER
from deckwatch_exporters.apps.collector import AppsCollector
from services import until

if TYPE_CHECKING:
    from pathlib import Path

IS_ROOT = os.geteuid() == 0


def series(folder: Path) -> dict[str, float]:
    return {str(name): value for name, value in collect(folder).values.items()}


def test_a_gauge_of_mode_last_survives_its_process_and_expires(tmp_path: Path) -> None:
    code = "gauge('backup_last_success_timestamp_seconds', mode='last').set({})"
    run(tmp_path, code.format(1000))
    run(tmp_path, code.format(2000))
    run(tmp_path, "gauge('backup_last_success_timestamp_seconds', mode='last')")  # never set

    for _ in range(2):
        assert collect(tmp_path).value("backup_last_success_timestamp_seconds", service="shop") == 2000
    assert files(tmp_path) == []
    with opened(EXPORTER, {"dir": str(tmp_path), "gauge_retention": "1ms"}) as target:
        assert "backup" not in str(target.collect().values)


def test_prometheus_clients_modes_max_and_min_survive_and_live_modes_do_not(tmp_path: Path) -> None:
    code = """
from prometheus_client import Gauge
for mode in ("max", "min", "livemax", "livemin"):
    Gauge(mode, mode, multiprocess_mode=mode).set({})
"""
    for value in (1, 3, 2):
        run(tmp_path, code.format(value))

    collected = collect(tmp_path)
    assert collected.value("max", service="shop") == 3
    assert collected.value("min", service="shop") == 1
    assert "live" not in str(collected.values)


def test_infos_are_shared_and_replaced(tmp_path: Path) -> None:
    code = """
build = info("build", "Build.", ["part"]).labels("web")
build.info({"version": "1", "host": "a"})
build.info({"version": "2"})
print("ready", flush=True)
input()
"""
    process = start(tmp_path, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    found = [name for name in series(tmp_path) if name.startswith("build")]
    process.communicate("\n", timeout=60)

    assert found == ['build_info{service="shop",part="web",version="2"}']
    assert "build" not in str(series(tmp_path))


def test_exemplars_of_living_processes_are_exported(tmp_path: Path) -> None:
    code = """
for number in range(3):
    orders.labels("paid").inc(exemplar={"trace_id": f"a{number}"})
    took.observe(2, exemplar={"trace_id": f"b{number}"})
    took.observe(9, exemplar={"trace_id": f"c{number}"})
    orders.labels("long").inc(exemplar={"trace_id": "\u2713" * 100})  # its JSON does not fit
print("ready", flush=True)
input()
"""
    process = start(tmp_path, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    collector = AppsCollector(str(tmp_path), 1000, 60)
    found = {
        sample.series.text.strip(): sample.extra.exemplar
        for sample in collector.collect()
        if isinstance(sample, Sample) and sample.extra and sample.extra.exemplar
    }
    collector.close()
    process.communicate("\n", timeout=60)

    assert {name: (exemplar.labels, exemplar.value) for name, exemplar in found.items()} == {
        'orders_total{service="shop",status="paid"}': ((("trace_id", "a2"),), 1),
        'took_seconds_bucket{service="shop",le="5.0"}': ((("trace_id", "b2"),), 2),
        'took_seconds_bucket{service="shop",le="+Inf"}': ((("trace_id", "c2"),), 9),
    }
    assert orders(tmp_path) == 3
    assert files(tmp_path) == []


@pytest.mark.skipif(not IS_ROOT, reason="a namespace of process ids needs root")
def test_processes_in_two_namespaces_of_process_ids_share_a_folder(tmp_path: Path) -> None:
    namespace = ["unshare", "--pid", "--fork", "--kill-child"]
    code = "work(5); print(os.getpid(), flush=True); input()"
    processes = [start(tmp_path, code, *namespace) for _ in range(2)]
    pids = []
    for process in processes:
        assert process.stdout is not None
        pids.append(process.stdout.readline())

    assert pids == ["1\n", "1\n"]
    collected = collect(tmp_path)
    assert collected.value("orders_total", service="shop", status="paid") == 10
    assert collected.value("deckwatch_apps_processes", service="shop") == 2
    assert collected.value("busy", service="shop") == 2
    processes[0].kill()
    processes[0].wait(60)
    # The kernel ends the process in the namespace after unshare.
    until(
        lambda: collect(tmp_path).value("deckwatch_apps_processes", service="shop") == 1, what="one process has ended"
    )
    assert orders(tmp_path) == 10
    assert collect(tmp_path).value("busy", service="shop") == 1
    processes[1].communicate("\n", timeout=60)
    assert orders(tmp_path) == 10
    assert files(tmp_path) == []


def test_a_signal_handler_that_counts_loses_nothing_and_does_not_hang(tmp_path: Path) -> None:
    code = """
import signal
handled = 0
def handler(*_):
    global handled
    handled += 1
    orders.labels("paid").inc()
    orders.labels(f"signal {handled % 50}").inc()
    took.observe(0.5)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for number in range(100_000):
    orders.labels("paid").inc()
    if number % 1000 == 0:
        orders.labels(f"new {number}").inc()
signal.setitimer(signal.ITIMER_REAL, 0)
counter("handled_total").inc(handled)
"""
    run(tmp_path, code)

    collected = collect(tmp_path)
    handled = collected.value("handled_total", service="shop")
    assert handled > 0
    assert collected.value("orders_total", service="shop", status="paid") == 100_000 + handled
    assert collected.value("took_seconds_count", service="shop") == handled
    signals = [value for name, value in series(tmp_path).items() if 'status="signal' in name]
    assert sum(signals) == handled
    assert len([name for name in series(tmp_path) if 'status="new' in name]) == 100


def test_the_clock_is_set_back_and_no_count_is_lost(tmp_path: Path) -> None:
    code = """
import time
now, now_ns = time.time, time.time_ns
work(5)
time.time, time.time_ns = lambda: now() - 3600, lambda: now_ns() - 3600 * 10**9
work(2)
took.observe(2, {"trace_id": "a"})
gauge("level", mode="last").set(1)
child = os.fork()
if child == 0:
    work(3)
    os._exit(0)
os.waitpid(child, 0)
print("ready", flush=True)
input()
work(1)
"""
    process = start(tmp_path, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    later = time.time() + 3600
    for path in (tmp_path / "shop").iterdir():
        os.utime(path, (later, later))  # written before the clock was set back

    for _ in range(2):
        assert orders(tmp_path) == 10
    assert collect(tmp_path).value("deckwatch_apps_processes", service="shop") == 1
    process.communicate("\n", timeout=60)
    for _ in range(2):
        assert orders(tmp_path) == 11
    assert collect(tmp_path).value("took_seconds_count", service="shop") == 5
    assert files(tmp_path) == []


def test_ten_thousand_label_sets_become_a_thousand_and_other_and_are_reported_once(tmp_path: Path) -> None:
    errors = run(tmp_path, "for number in range(10_000): orders.labels(f'user {number}').inc()")

    assert errors.count('metric "orders" has more than 1000 label sets') == 1
    found = [value for name, value in series(tmp_path).items() if name.startswith("orders_total")]
    assert sorted(found) == [1] * 1000 + [9000]


def test_threads_that_count_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    code = """
import threading
sys.setswitchinterval(1e-6)
def count():
    for number in range(20_000):
        orders.labels("paid").inc()
        orders.labels(f"set {number % 700}").inc()
threads = [threading.Thread(target=count) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    run(tmp_path, code)

    assert orders(tmp_path) == 80_000
    assert sum(value for name, value in series(tmp_path).items() if 'status="set' in name) == 80_000


def test_children_forked_while_threads_count_count_for_themselves(tmp_path: Path) -> None:
    code = """
import signal, threading
faulthandler.register(signal.SIGALRM, chain=True)
sys.setswitchinterval(1e-6)
over = threading.Event()
counted = [0, 0, 0]
def count(which):
    while not over.is_set():
        number = counted[which] = counted[which] + 1
        orders.labels("paid").inc()
        orders.labels(f"thread {which} {number % 300}").inc()
        took.observe(1)
threads = [threading.Thread(target=count, args=(which,)) for which in range(3)]
for thread in threads: thread.start()
statuses = []
for number in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # prints where the child hangs
        orders.labels("child").inc()
        orders.labels(f"new {number}").inc()
        counter(f"made_in_child_{number}_total").inc()
        took.observe(1)
        os._exit(0)
    statuses.append(os.waitpid(child, 0)[1])
over.set()
for thread in threads: thread.join()
assert not any(statuses), statuses
counter("counted_total").inc(sum(counted))
"""
    run(tmp_path, code)

    collected = collect(tmp_path)
    counted = collected.value("counted_total", service="shop")
    assert collected.value("orders_total", service="shop", status="paid") == counted
    assert collected.value("orders_total", service="shop", status="child") == 20
    assert collected.value("took_seconds_count", service="shop") == counted + 20
    assert collected.value("deckwatch_apps_files_skipped", service="shop") == 0
    assert len([name for name in series(tmp_path) if name.startswith("made_in_child")]) == 20


def test_a_garbage_collection_at_the_beginning_of_a_child_leaves_the_files_of_its_parent_alone(tmp_path: Path) -> None:
    code = """
import gc
gc.disable()
work(3)
files = orders.labels("paid")._value.files
leave = files._forked
def collect_and_leave():
    gc.collect(1)  # the first one: its metrics have no place yet
    leave()
files._forked = collect_and_leave
child = os.fork()
if child == 0:
    work(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
orders.labels("new").inc()
"""
    run(tmp_path, code)

    collected = collect(tmp_path)
    assert collected.value("deckwatch_apps_files_skipped", service="shop") == 0
    assert collected.value("orders_total", service="shop", status="paid") == 4
    assert collected.value("orders_total", service="shop", status="new") == 1


def test_children_of_a_fork_without_pythons_hooks_count_for_themselves(tmp_path: Path) -> None:
    code = """
import ctypes
work(5)
for number in range(3):
    child = ctypes.CDLL(None).fork()  # as uWSGI does
    if child == 0:
        work(10)
        os._exit(0)
    os.waitpid(child, 0)
work(1)
"""
    process = start(tmp_path, code + "print('ready', flush=True); input()")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    for _ in range(2):
        assert orders(tmp_path) == 36
    assert collect(tmp_path).value("deckwatch_apps_processes", service="shop") == 1
    process.communicate("\n", timeout=60)
    assert orders(tmp_path) == 36


def test_a_child_that_changes_nothing_leaves_no_file(tmp_path: Path) -> None:
    code = """
work(1)
child = os.fork()
if child == 0:
    print(orders.labels("paid")._value.get(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
names = os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])
print(len({name.rpartition("_")[2] for name in names if name.endswith(".db")}), *names)
"""
    process = start(tmp_path, code)
    output, errors = process.communicate(timeout=60)

    assert output.split()[:2] == ["0.0", "1"], (output, errors)


def test_processes_that_are_killed_at_any_moment_leave_no_damaged_file_and_no_counter_falls(tmp_path: Path) -> None:
    code = """
print("ready", flush=True)
number = 0
while True:
    number += 1
    orders.labels("paid").inc()
    counter(f"made_{number % 2000}_total", "Made.", ["part"]).labels("x" * (number % 50)).inc()
"""
    seen = []
    for number in range(8):
        process = start(tmp_path, code)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.01 * number)  # any moment will do
        process.kill()
        process.wait(60)
        with opened(EXPORTER, {"dir": str(tmp_path), "max_series": 1_000_000}) as target:
            collected = target.collect()
        assert collected.value("deckwatch_apps_files_skipped", service="shop") == 0
        seen.append(collected.value("orders_total", service="shop", status="paid") if number else 0)
    assert seen == sorted(seen)
    assert files(tmp_path) == []


def test_a_process_that_closes_all_descriptors_goes_on_and_changes_no_other_file(tmp_path: Path) -> None:
    code = """
work(1)
os.closerange(3, 1000)
others = [open(os.path.join(os.environ["OTHERS"], str(number)), "w+") for number in range(20)]
for other in others:
    other.write("mine")
    other.flush()
for number in range(900):
    orders.labels(f"{number}").inc()
"""
    (tmp_path / "others").mkdir()
    run(tmp_path / "apps", code, OTHERS=str(tmp_path / "others"))

    assert {path.read_text() for path in (tmp_path / "others").iterdir()} == {"mine"}
    assert collect(tmp_path / "apps").value("orders_total", service="shop", status="899") == 1


def test_label_values_are_written_as_text(tmp_path: Path) -> None:
    code = """
import enum
class Status(str, enum.Enum):
    PAID = "paid"
orders.labels("paid").inc()
orders.labels(Status.PAID).inc()
orders.labels(5).inc()
orders.labels(status=5).inc()
orders.labels(status="5").inc()
orders.labels(None).inc()
orders.labels('quoted " and \\\\ and \\n and \u2713').inc()
"""
    run(tmp_path, code)

    found = {name: value for name, value in series(tmp_path).items() if name.startswith("orders")}
    assert found == {
        'orders_total{service="shop",status="paid"}': 1,
        'orders_total{service="shop",status="Status.PAID"}': 1,
        'orders_total{service="shop",status="5"}': 3,
        'orders_total{service="shop",status="None"}': 1,
        'orders_total{service="shop",status="quoted \\" and \\\\ and \\n and \u2713"}': 1,
    }


def test_a_process_that_uses_prometheus_client_directly_is_included(tmp_path: Path) -> None:
    (tmp_path / "spawned.py").write_text(
        APP
        + """
import subprocess
work(5)
code = "from prometheus_client import Counter; Counter('orders', 'Orders.', ['status']).labels('paid').inc(2)"
subprocess.run([sys.executable, "-c", code], check=True)
"""
    )
    environ = {**os.environ, "DECKWATCH_APP_DIR": str(tmp_path / "apps"), "DECKWATCH_SERVICE": "shop"}
    subprocess.run([sys.executable, str(tmp_path / "spawned.py")], env=environ, check=True, timeout=60)

    assert orders(tmp_path / "apps") == 7
