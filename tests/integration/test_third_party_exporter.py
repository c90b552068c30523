"""The exporter in exporters/README.md, installed as a third-party distribution and run by a real agent."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from deckwatch.testing import opened
from services import Program, agent, deckwatch_command, fetch, until

README = (Path(__file__).parents[2] / "exporters" / "README.md").read_text()
EXAMPLE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """Return an environment with the example installed."""
    folder = tmp_path / "site"
    info = folder / "well-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "well_exporter.py").write_text(EXAMPLE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: well\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[deckwatch.exporters]\nwell = well_exporter:EXPORTER\n")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def well(tmp_path: Path) -> Path:
    folder = tmp_path / "well"
    (folder / "pumps").mkdir(parents=True)
    (folder / "depth").write_text("12")
    (folder / "pumps" / "north").write_text("1")
    return folder


def command(folder: Path, site: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        deckwatch_command(*arguments),
        cwd=folder,
        env={**os.environ, **site},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write_config(folder: Path, well: Path, rest: str = "") -> str:
    text = f"interval: 200ms\nexporters:\n  well: [{{name: garden, folder: {well}{rest}}}]\n"
    (folder / "deckwatch.yml").write_text(text)
    return text


def series(program: Program) -> dict[str, float]:
    lines = fetch(program.url + "/metrics")[1].splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_the_example_has_25_lines_and_imports_one_module_of_deckwatch() -> None:
    lines = [line for line in EXAMPLE.splitlines() if line.strip()]
    assert len(lines) <= 25
    assert [line.split()[1] for line in lines if line.startswith("from deckwatch")] == ["deckwatch.exporter"]


def test_the_test_kit_runs_it_without_an_agent(tmp_path: Path, well: Path) -> None:
    (tmp_path / "well_exporter.py").write_text(EXAMPLE)
    exporter = runpy.run_path(str(tmp_path / "well_exporter.py"), run_name="well_exporter")["EXPORTER"]
    with opened(exporter, {"folder": str(well)}) as target:
        collected = target.collect()
        assert not collected.errors
        assert collected.value("well_depth_meters") == 12
        assert collected.value("well_pump_running", pump="north") == 1


def test_check_metrics_and_once_include_it(tmp_path: Path, site: dict[str, str], well: Path) -> None:
    write_config(tmp_path, well)
    checked = command(tmp_path, site, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"well\.depth +garden +ok", checked.stdout)
    catalogue = json.loads(command(tmp_path, site, "metrics", "--format", "json").stdout)
    found = {entry["name"]: entry for entry in catalogue if entry["exporter"] == "well"}
    assert found.keys() == {"well_depth_meters", "well_pump_running"}
    assert found["well_pump_running"]["labels"] == ["pump"]
    once = command(tmp_path, site, "once", "well")
    assert 'well_pump_running{target="garden",pump="north"} 1' in once.stdout


def test_check_does_not_wait_for_a_check_that_hangs(tmp_path: Path, site: dict[str, str], well: Path) -> None:
    hanging = EXAMPLE.replace("named=True)", "named=True, check=lambda settings: time.sleep(600))")
    assert hanging != EXAMPLE
    (Path(site["PYTHONPATH"]) / "well_exporter.py").write_text("import time\n" + hanging)
    write_config(tmp_path, well)
    checked = command(tmp_path, site, "check", "--timeout", "1")
    assert checked.returncode == 2
    assert re.search(r"well +garden +failed .*no answer within 1 s", checked.stdout)
    assert re.search(r"well\.depth +garden +ok", checked.stdout)


def test_check_and_run_count_the_series_of_a_target_together(tmp_path: Path, site: dict[str, str], well: Path) -> None:
    (well / "pumps" / "south").write_text("0")
    config = write_config(tmp_path, well, ", max_series: 2")
    checked = command(tmp_path, site, "check").stdout
    assert re.search(r"well\.pumps +garden +warning .*1 series over the limit", checked)
    with agent(tmp_path, config, **site) as program:
        found = series(program)
    assert found['deckwatch_series_dropped{target="garden",collector="well.pumps"}'] == 1


def test_a_collector_is_disabled_by_name_and_a_wrong_name_is_an_error(
    tmp_path: Path, site: dict[str, str], well: Path
) -> None:
    write_config(tmp_path, well, ", disable: [pump]")
    refused = command(tmp_path, site, "check")
    assert refused.returncode == 2
    assert "unknown collector 'pump' (did you mean 'pumps'?); there are: depth, pumps" in refused.stderr
    with agent(tmp_path, write_config(tmp_path, well, ", disable: [pumps]"), **site) as program:
        found = series(program)
    assert found['well_depth_meters{target="garden"}'] == 12
    assert not [name for name in found if name.startswith("well_pump_running")]


def test_a_malformed_value_a_crash_and_a_recovery_affect_one_collector_only(
    tmp_path: Path, site: dict[str, str], well: Path
) -> None:
    depth, pump = 'well_depth_meters{target="garden"}', 'well_pump_running{target="garden",pump="north"}'
    with agent(tmp_path, write_config(tmp_path, well), **site) as program:
        (well / "depth").write_text("deep")
        until(lambda: depth not in series(program))
        found = series(program)
        assert found['deckwatch_collector_parse_errors{target="garden",collector="well.depth"}'] == 1
        assert found['deckwatch_collector_success{target="garden",collector="well.depth"}'] == 1

        (well / "depth").unlink()
        until(lambda: series(program)['deckwatch_collector_success{target="garden",collector="well.depth"}'] == 0)
        assert series(program)[pump] == 1

        (well / "depth").write_text("3")
        until(lambda: series(program).get(depth) == 3)
    printed = program.printed
    assert printed.count("cannot parse") == 1
    assert printed.count(r"well.depth \"garden\" failed: FileNotFoundError") == 1
    assert printed.count(r"well.depth \"garden\" works again") == 1


def test_an_exporter_that_breaks_the_contract_costs_its_own_target_only(
    tmp_path: Path, site: dict[str, str], well: Path
) -> None:
    folder = Path(site["PYTHONPATH"])
    (folder / "well_exporter.py").write_text(EXAMPLE.replace('collectors=("depth", "pumps")', 'collectors=("depth",)'))
    config = write_config(tmp_path, well) + "  system: {}\n"
    with agent(tmp_path, config, **site) as program:
        found = series(program)
    assert "node_load1" in found
    assert found['deckwatch_collector_success{target="garden",collector="well"}'] == 0
    assert "Exporter(collectors=...) of well lacks pumps" in program.printed


@pytest.mark.parametrize(
    ("opening", "error"),
    [
        ("sys.exit('no pump')", "SystemExit: no pump"),
        ("return None", "open() of well must return a Target with collectors by name"),
        ("return Target({'depth': Depth(settings.folder), 'pumps': None})", "well"),
    ],
)
def test_an_open_that_fails_in_any_way_costs_its_own_target_only(
    tmp_path: Path, site: dict[str, str], well: Path, opening: str, error: str
) -> None:
    broken = re.sub(r"(?m)^(def open_\w+\(.*\n)", rf"\1    {opening}\n", EXAMPLE)
    (Path(site["PYTHONPATH"]) / "well_exporter.py").write_text("import sys\n" + broken)
    config = write_config(tmp_path, well) + "  system: {}\n"
    with agent(tmp_path, config, **site) as program:
        found = series(program)
    assert "node_load1" in found
    assert 0 in [
        value for name, value in found.items() if name.startswith('deckwatch_collector_success{target="garden')
    ]
    assert error in program.printed


@pytest.mark.parametrize(
    ("close", "message"),
    [
        ("(settings.folder / 'closed').write_text('')", ""),
        ("[(settings.folder / 'closed').write_text(''), 1 / 0]", "close() failed: ZeroDivisionError"),
        ("[(settings.folder / 'closed').write_text(''), time.sleep(600)]", ""),
    ],
    ids=["works", "fails", "hangs"],
)
def test_a_target_is_closed_when_the_agent_stops_and_cannot_prevent_that(
    tmp_path: Path, site: dict[str, str], well: Path, close: str, message: str
) -> None:
    closing = EXAMPLE.replace("Pumps(settings.folder)})", f"Pumps(settings.folder)}}, close=lambda: {close})")
    assert closing != EXAMPLE
    (Path(site["PYTHONPATH"]) / "well_exporter.py").write_text("import time\n" + closing)
    with agent(tmp_path, write_config(tmp_path, well), **site) as program:
        assert "well_depth_meters" in fetch(program.url + "/metrics")[1]
        assert not (well / "closed").exists()
    assert (well / "closed").exists()
    assert message in program.printed


def test_an_exporter_that_cannot_be_imported_does_not_hide_the_others(tmp_path: Path, site: dict[str, str]) -> None:
    (Path(site["PYTHONPATH"]) / "well_exporter.py").write_text("import no_such_library\n")
    for arguments in (("metrics",), ("config", "schema")):
        done = command(tmp_path, site, *arguments)
        assert done.returncode == 1
        assert "exporter 'well' of well cannot be loaded" in done.stderr
        assert "no_such_library" in done.stderr
        assert "redis" in done.stdout
