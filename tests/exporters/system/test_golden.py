"""Every subsystem on a small host: the exposition matches the golden file, and broken files never fail a run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable, Sample
from deckwatch.metrics.declaration import Metric
from deckwatch_exporters.system import EXPORTER, SUBSYSTEMS

from .subsystems import ON_FILES, collected, files_read
from .support import FIXTURES, exposed

GOLDEN = Path(__file__).parent.parent / "golden"


def lines(samples: list[Sample], tree: Path) -> list[str]:
    """Return the exposition without anything that depends on the checkout."""
    found = [line.replace(str(tree), "") for line in exposed(samples)]
    return [line.partition("} ")[0] + "} MTIME" if line.startswith("node_textfile_mtime") else line for line in found]


@pytest.mark.parametrize("name", ON_FILES)
def test_the_exposition_of_a_small_host_matches_the_golden_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: os.uname_result(("Linux", "harbour", "6.1.0", "#1 SMP", "x86_64")))
    tree = FIXTURES / "host"
    golden = GOLDEN / f"system.{name}.txt"
    found = "\n".join(lines(collected(name, tree), tree)) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(found)

    assert found == golden.read_text()


@pytest.mark.parametrize("name", ON_FILES)
def test_an_empty_host_gives_an_error_or_only_series_that_need_no_files(name: str, tmp_path: Path) -> None:
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
def test_truncated_empty_and_garbage_files_never_fail_the_run(
    name: str, garbage: bytes | int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = tmp_path_factory.mktemp("broken") / "host"
    shutil.copytree(FIXTURES / "host", tree, symlinks=True)
    files = [tree / path for path in files_read(name)]
    for file in data.draw(st.sets(st.sampled_from(files), min_size=1)) if files else ():
        content = file.read_bytes()
        file.write_bytes(content[:garbage] if isinstance(garbage, int) else garbage)
    try:
        found = collected(name, tree)
    except NotAvailable:
        found = []
    finally:
        shutil.rmtree(tree)
    assert len({sample.series.text for sample in found}) == len(found)
    assert all(isinstance(sample.value, (int, float)) for sample in found)


@pytest.mark.parametrize("name", sorted(SUBSYSTEMS))
def test_every_metric_that_a_subsystem_yields_is_in_the_catalogue(name: str) -> None:
    patterns = [metric for metric in EXPORTER.metrics if not isinstance(metric, Metric)]
    named = {metric.name for metric in EXPORTER.metrics if isinstance(metric, Metric)}
    try:
        found = {sample.series.metric.name for sample in collected(name, FIXTURES / "host")}
    except NotAvailable:
        found = set()
    if name == "textfile":
        found = {metric for metric in found if metric.startswith(("node_", "deckwatch_"))}  # the rest: users

    assert {metric for metric in found - named if not any(pattern.matches(metric) for pattern in patterns)} == set()
