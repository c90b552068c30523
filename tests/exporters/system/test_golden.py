"""Every subsystem on a small host: the exposition is as ever, and broken files harm their collector at the most."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwatch.exporter import Collector, Context, NotAvailable
from deckwatch.metrics.declaration import Metric, Sample
from deckwatch_exporters.system import EXPORTER, SUBSYSTEMS, SystemSettings
from deckwatch_exporters.system.time_of_day import TimeOfDay

from .support import FIXTURES, exposed

GOLDEN = Path(__file__).parent.parent / "golden"

#: What asks the running kernel and not a file (timex), or file systems that are there (filesystem): tests of their own.
ELSEWHERE = {"timex", "filesystem", "systemd"}
ON_FILES = sorted(SUBSYSTEMS.keys() - ELSEWHERE)


def make(name: str, tree: Path) -> Collector:
    config = SystemSettings.model_validate(
        {
            "procfs": str(tree / "proc"),
            "sysfs": str(tree / "sys"),
            "rootfs": str(tree / "root"),
            "udev": str(tree / "udev"),
            "stat": {"softirq": True},
            "processes": [{"name": "worker", "match": "celery", "pss": True}, {"name": "nobody", "match": "none such"}],
        }
    )
    if name == "time":
        return TimeOfDay(config.paths, clock=lambda: 1_700_000_000.0)
    return SUBSYSTEMS[name].make(config.paths, config, Context(logger=logging.getLogger("test")))


def collected(name: str, tree: Path) -> list[Sample]:
    return [item for item in make(name, tree).collect() if isinstance(item, Sample)]


def lines(samples: list[Sample], tree: Path) -> list[str]:
    """As exposed, with what differs from checkout to checkout taken out."""
    found = [line.replace(str(tree), "") for line in exposed(samples)]
    return [line.partition("} ")[0] + "} MTIME" if line.startswith("node_textfile_mtime") else line for line in found]


@pytest.mark.parametrize("name", ON_FILES)
def test_the_exposition_of_a_small_host_is_the_golden_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: os.uname_result(("Linux", "harbour", "6.1.0", "#1 SMP", "x86_64")))
    tree = FIXTURES / "host"
    golden = GOLDEN / f"system.{name}.txt"
    found = "\n".join(lines(collected(name, tree), tree)) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(found)

    assert found == golden.read_text()


@pytest.mark.parametrize("name", ON_FILES)
def test_a_host_that_has_nothing_of_the_kind_is_told_in_so_many_words(name: str, tmp_path: Path) -> None:
    try:
        found = collected(name, tmp_path)
    except (NotAvailable, OSError):
        return  # absent, or the file's name in the error
    always = {
        "node_selinux_enabled",
        "node_textfile_scrape_error",
        "node_time_seconds",
        "node_time_zone_offset_seconds",
    }
    always |= {"node_uname_info", "node_tcp_connection_states"}
    assert {sample.series.metric.name for sample in found} <= always


@pytest.mark.parametrize("name", ON_FILES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(garbage=st.one_of(st.just(b""), st.binary(max_size=200), st.integers(0, 400)), data=st.data())
def test_truncated_empty_and_garbage_files_give_a_clear_error_or_good_samples(
    name: str, garbage: bytes | int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = tmp_path_factory.mktemp("broken") / "host"
    shutil.copytree(FIXTURES / "host", tree, symlinks=True)
    files = _files_of(name, tree)
    for file in data.draw(st.sets(st.sampled_from(files), min_size=1)) if files else ():
        content = file.read_bytes()
        file.write_bytes(content[:garbage] if isinstance(garbage, int) else garbage)
    try:
        found = collected(name, tree)
    except (NotAvailable, OSError, ValueError):
        found = []
    finally:
        shutil.rmtree(tree)
    assert len({sample.series.text for sample in found}) == len(found)
    assert all(isinstance(sample.value, (int, float)) for sample in found)


_READ: dict[str, list[Path]] = {}


def _files_of(name: str, tree: Path) -> list[Path]:
    """The files of the fixture that the collector opens, found by watching it."""
    if name not in _READ:
        opened: list[Path] = []
        real_open = os.open

        def watched_open(path: str, *arguments: int) -> int:
            opened.append(Path(path).relative_to(FIXTURES / "host"))
            return real_open(path, *arguments)

        os.open = watched_open  # type: ignore[assignment]  # for this one run
        try:
            collected(name, FIXTURES / "host")
        finally:
            os.open = real_open
        _READ[name] = sorted({path for path in opened if (FIXTURES / "host" / path).is_file()})
    return [tree / path for path in _READ[name]]


@pytest.mark.parametrize("name", sorted(SUBSYSTEMS))
def test_every_metric_that_a_subsystem_yields_is_in_the_catalogue(name: str) -> None:
    patterns = [metric for metric in EXPORTER.metrics if not isinstance(metric, Metric)]
    named = {metric.name for metric in EXPORTER.metrics if isinstance(metric, Metric)}
    try:
        found = {sample.series.metric.name for sample in collected(name, FIXTURES / "host")}
    except NotAvailable:
        found = set()
    if name == "textfile":
        found = {metric for metric in found if metric.startswith(("node_", "deckwatch_"))}  # the others are users'

    assert {metric for metric in found - named if not any(pattern.matches(metric) for pattern in patterns)} == set()
