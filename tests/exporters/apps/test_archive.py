"""Files of applications: real processes with prometheus_client, and odd files."""

from __future__ import annotations

import math
import os
import signal
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting_app import APP, collect, files, orders, run, start
from deckwatch.testing import opened
from deckwatch_exporters.apps import EXPORTER, AppsSettings, check_folder
from deckwatch_exporters.apps.archive import NAME, load
from deckwatch_exporters.apps.multiprocess_file import Damaged, Values, ValuesReader

if TYPE_CHECKING:
    from pathlib import Path


def test_many_short_processes_count_and_leave_a_bounded_number_of_files(tmp_path: Path) -> None:
    for number in range(1, 6):
        run(tmp_path, "work(10)")
        assert orders(tmp_path) == 10 * number
        assert len(load(str(tmp_path / "shop")).included) <= 3, "only files that may still exist"
    assert files(tmp_path) == []
    assert not list((tmp_path / "shop").glob("*.lock"))[1:], "only the agent's lock"


def test_living_and_dead_processes_add_up_and_gauges_of_the_dead_go(tmp_path: Path) -> None:
    run(tmp_path, "work(3)")
    living = start(tmp_path, "work(4); print('ready', flush=True); input()")
    assert living.stdout is not None
    assert living.stdout.readline() == "ready\n"

    collected = collect(tmp_path)
    assert collected.value("orders_total", service="shop") == 7
    assert collected.value("busy", service="shop") == 1
    assert collected.value("took_seconds_count", service="shop") == 2
    assert collected.value("took_seconds_bucket", service="shop", le="1.0") == 0
    assert collected.value("deckwatch_apps_processes", service="shop") == 1

    living.send_signal(signal.SIGKILL)
    living.wait(60)
    collected = collect(tmp_path)
    assert collected.value("orders_total", service="shop") == 7
    assert "busy" not in str(collected.values)
    assert files(tmp_path) == []


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_count_for_themselves(tmp_path: Path, method: str) -> None:
    (tmp_path / "children.py").write_text(
        APP
        + f"""
import multiprocessing
if __name__ == "__main__":
    work(5)
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=work, args=(10,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    work(1)
"""
    )
    folder = tmp_path / "apps"
    environ = {**os.environ, "DECKWATCH_APP_DIR": str(folder), "DECKWATCH_SERVICE": "shop"}
    subprocess.run([sys.executable, str(tmp_path / "children.py")], env=environ, check=True, timeout=120)

    assert orders(folder) == 36


def test_a_child_that_outlives_its_parent_is_alive(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        """
work(1)
child = os.fork()
if child == 0:
    work(2)
    print("child", flush=True)
    input()
    os._exit(0)
os._exit(0)
""",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "child\n"
    process.wait(60)

    assert orders(tmp_path) == 3
    assert collect(tmp_path).value("deckwatch_apps_processes", service="shop") == 1
    process.communicate("\n", timeout=60)


def test_a_crash_between_archiving_and_removing_counts_once(tmp_path: Path) -> None:
    run(tmp_path, "work(10)")
    (name,) = [name for name in files(tmp_path) if name.startswith("counter")]
    content = (tmp_path / "shop" / name).read_bytes()
    status = (tmp_path / "shop" / name).stat()
    assert orders(tmp_path) == 10
    archive = load(str(tmp_path / "shop"))
    (tmp_path / "shop" / name).write_bytes(content)  # as if it had not been removed
    os.utime(tmp_path / "shop" / name, ns=(status.st_mtime_ns, status.st_mtime_ns))
    restored = (tmp_path / "shop" / name).stat()
    archive.included.add((name, restored.st_ino, restored.st_mtime_ns))
    archive.write(str(tmp_path / "shop"))

    assert orders(tmp_path) == 10
    assert files(tmp_path) == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_sum_of_fractions_stays_the_same_when_processes_end(tmp_path: Path, order: tuple[int, ...]) -> None:
    amounts = (0.1, 0.2, 0.3)  # the sum is 0.6 or 0.6000000000000001, by the order
    apps = [start(tmp_path, f"took.observe({it}); print('ready', flush=True); input()") for it in amounts]
    for app in apps:
        assert app.stdout is not None
        assert app.stdout.readline() == "ready\n"

    with opened(EXPORTER, {"dir": str(tmp_path)}) as target:
        sums = [target.collect().value("took_seconds_sum", service="shop")]
        for number in order:
            apps[number].communicate("\n", timeout=60)
            sums.append(target.collect().value("took_seconds_sum", service="shop"))
    sums.append(collect(tmp_path).value("took_seconds_sum", service="shop"))

    assert sums == [math.fsum(amounts)] * 5


def test_files_of_many_ended_processes_are_removed_in_parts_and_count_once(tmp_path: Path) -> None:
    run(tmp_path, "work(1)")
    (name,) = [name for name in files(tmp_path) if name.startswith("counter")]
    content = (tmp_path / "shop" / name).read_bytes()
    for number in range(1200):
        (tmp_path / "shop" / f"counter_1-{number:x}.db").write_bytes(content)
        (tmp_path / "shop" / f"1-{number:x}.lock").touch()

    left = [len(files(tmp_path))]
    while left[-1]:
        assert orders(tmp_path) == 1201  # each time by an agent that has just started
        left.append(len(files(tmp_path)))
    assert len(left) == 4
    assert orders(tmp_path) == 1201
    assert {it.name for it in (tmp_path / "shop").iterdir()} == {NAME, "deckwatch.lock"}


def test_files_with_the_same_size_and_other_keys_are_told_apart(tmp_path: Path) -> None:
    for status, count in (("paid", 1), ("open", 2), ("paid", 3), ("lost", 4)):
        run(tmp_path, f"orders.labels('{status}').inc({count})")

    collected = collect(tmp_path)

    found = [collected.value("orders_total", service="shop", status=it) for it in ("paid", "open", "lost")]
    assert found == [4, 2, 4]


def test_an_archive_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    run(tmp_path, "work(10)")
    (tmp_path / "shop" / f"{NAME}.new").mkdir()  # the temporary file cannot be created

    for _ in range(2):
        collected = collect(tmp_path)
        assert collected.value("orders_total", service="shop") == 10
        assert collected.malformed == [f"service shop: {NAME}"]
    (tmp_path / "shop" / f"{NAME}.new").rmdir()
    assert orders(tmp_path) == 10
    assert files(tmp_path) == []


def test_a_folder_of_prometheus_client_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    code = "from prometheus_client import Counter; Counter('visits', 'Visits.').inc(7)"
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "old")}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)

    for _ in range(2):
        assert collect(tmp_path).value("visits_total", service="old") == 7


def test_a_folder_that_cannot_be_used_leaves_the_application_alone_and_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    errors = run(tmp_path / "file", "work(1); print(orders.labels('paid')._value.get())")

    assert errors.count("metrics are not shared with the agent") == 1
    assert "Check DECKWATCH_APP_DIR." in errors


def test_damaged_files_are_skipped_and_counted(tmp_path: Path) -> None:
    run(tmp_path, "work(10)")
    (tmp_path / "shop" / "counter_1.db").write_bytes(b"\xff" * 100)
    (tmp_path / "shop" / "counter_2.db").write_bytes(b"")
    (tmp_path / "shop" / "counter_3.db").write_bytes(struct.pack("ii", 8, 1))  # a newer version
    (tmp_path / "shop" / "notes.txt").write_text("mine")

    collected = collect(tmp_path)

    assert collected.value("orders_total", service="shop") == 10
    assert collected.value("deckwatch_apps_files_skipped", service="shop") == 2
    assert (tmp_path / "shop" / "notes.txt").exists()
    assert (tmp_path / "shop" / "counter_3.db").exists()


def test_names_that_prometheus_does_not_allow_cost_their_own_series_only(tmp_path: Path) -> None:
    code = """
from prometheus_client import Counter, Gauge, Histogram
for name in ("bad name", "bad.name"):
    Counter(name, "x").inc()
    Gauge(name + "g", "x", multiprocess_mode="max").set(1)
    Histogram(name + "h", "x").observe(1)
Counter("own", "x", ["service", "self"]).labels("mine", "a").inc()
work(2)
"""
    run(tmp_path, code)

    collected = collect(tmp_path)
    assert collected.errors == {}
    assert collected.value("orders_total", service="shop") == 2
    assert collected.values['own_total{service="mine",self="a"}'] == 1


def test_an_archive_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path, "work(10)")
    (tmp_path / "shop" / NAME).write_text('{"version": 99}')

    collected = collect(tmp_path)

    assert collected.malformed == ["service shop"]
    assert (tmp_path / "shop" / NAME).read_text() == '{"version": 99}'


def test_a_folder_that_does_not_exist_yet_is_no_failure(tmp_path: Path) -> None:
    assert collect(tmp_path / "none").errors == {}
    (finding,) = check_folder(AppsSettings(dir=str(tmp_path / "none")))
    assert finding.state == "missing"
    assert "DECKWATCH_APP_DIR=" in finding.remedy


def test_a_service_over_its_limit_is_not_exposed_and_says_so(tmp_path: Path) -> None:
    run(tmp_path, "for n in range(20): orders.labels(str(n)).inc()")

    with opened(EXPORTER, {"dir": str(tmp_path), "max_series": 10}) as target:
        collected = target.collect()

    assert collected.value("deckwatch_apps_series_limited", service="shop") == 1
    assert "orders_total" not in str(collected.values)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_content_is_read_or_damaged(tmp_path_factory: pytest.TempPathFactory, content: bytes, used: int) -> None:
    path = tmp_path_factory.mktemp("file") / "counter_1.db"
    path.write_bytes(struct.pack("ii", used, 0) + content)

    try:
        values = ValuesReader().read(str(path), "counter")
    except Damaged:
        return
    assert isinstance(values, Values)
