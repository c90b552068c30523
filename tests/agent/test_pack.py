"""The pack's files, their export, and the check of rules against the catalogue."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from deckwatch.cli.alerts import check
from deckwatch.collection.registry import Registry
from deckwatch.pack.alerts import metrics_of, shipped_rules
from deckwatch.pack.dashboards import shipped_dashboards
from deckwatch.pack.export import RECORD, export
from deckwatch.pack.files import PackError, shipped
from deckwatch.pack.promql import names_in, without_recorded
from services import ROOT, installed


def exported(part: str, folder: Path, force: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    return export(part, folder, force, out), out.getvalue()


def test_the_checkout_ships_its_dashboards_rules_runbooks_and_alertmanager_config() -> None:
    boards, alerts = shipped("dashboards"), shipped("alerts")

    assert set(boards) == {path.name for path in (ROOT / "dashboards").glob("*.json")}
    assert {"alertmanager.yml", "host.rules.yml", "runbooks/Watchdog.md", "templates/deckwatch.tmpl"} <= set(alerts)
    assert not [name for name in alerts if "test" in name or name == "README.md"]
    assert all(board.uid.startswith("deckwatch-") for board in shipped_dashboards())


def test_package_data_takes_precedence_over_the_folders_of_a_checkout(tmp_path: Path) -> None:
    modules = tmp_path / "agent" / "deckwatch"
    for folder in (tmp_path / "dashboards", modules / "pack" / "data" / "dashboards"):
        folder.mkdir(parents=True)
        (folder / "a.json").write_text(folder.parent.name)

    assert shipped("dashboards", modules) == {"a.json": b"data"}


def test_an_installation_without_the_pack_says_so(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="this installation of Deckwatch has no alerts"):
        shipped("alerts", tmp_path / "agent" / "deckwatch")


@pytest.mark.parametrize("part", ["dashboards", "alerts"])
def test_an_export_writes_each_file_as_it_ships_and_a_second_one_changes_nothing(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "new" / "folder"

    code, said = exported(part, folder)
    again = exported(part, folder)

    files = shipped(part)
    assert code == 0
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {*files, RECORD}
    assert said.count("created    ") == len(files)
    assert again == (0, f"0 created, 0 updated, {len(files)} unchanged\n")


def test_an_export_updates_what_an_earlier_one_wrote(tmp_path: Path) -> None:
    exported("dashboards", tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / "host.json").write_text("of an older version")
    record["dashboards"]["host.json"] = "c7c08c4ad09a7d02f9aa2f8e04a4b6e7c4b6f3a8"
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert exported("dashboards", tmp_path)[0] == 1

    record["dashboards"]["host.json"] = hashlib.sha256(b"of an older version").hexdigest()
    (tmp_path / RECORD).write_text(json.dumps(record))
    code, said = exported("dashboards", tmp_path)

    assert code == 0
    assert f"updated    {tmp_path / 'host.json'}" in said


def test_an_export_overwrites_changed_or_foreign_files_only_if_forced(tmp_path: Path) -> None:
    foreign = tmp_path / "redis.json"
    foreign.write_text("mine")

    code, said = exported("dashboards", tmp_path)
    assert code == 1
    assert f"kept       {foreign}" in said
    assert "nothing was written; overwrite these files with --force" in said
    assert list(tmp_path.iterdir()) == [foreign]

    assert exported("dashboards", tmp_path, force=True)[0] == 0
    (tmp_path / "host.json").write_text("changed")
    assert exported("dashboards", tmp_path)[0] == 1
    assert (tmp_path / "host.json").read_text() == "changed"


def test_both_parts_can_share_a_folder_and_files_no_longer_shipped_are_listed(tmp_path: Path) -> None:
    exported("dashboards", tmp_path)
    assert exported("alerts", tmp_path)[0] == 0
    record = json.loads((tmp_path / RECORD).read_text())
    record["alerts"]["old.rules.yml"] = "0"
    (tmp_path / RECORD).write_text(json.dumps(record))
    (tmp_path / "old.rules.yml").write_text("groups: []")

    said = exported("alerts", tmp_path)[1]

    assert "old.rules.yml (no longer shipped: remove it)" in said
    assert "host.json" not in said


def test_with_a_damaged_record_all_files_count_as_foreign(tmp_path: Path) -> None:
    exported("dashboards", tmp_path)
    (tmp_path / "host.json").write_text("changed")
    for spoilt in ("{", "[]", '{"dashboards": 3}'):
        (tmp_path / RECORD).write_text(spoilt)
        assert exported("dashboards", tmp_path)[0] == 1


def test_a_folder_that_is_not_writable_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(PackError, match=r"file: (File exists|Not a directory)$"):
        exported("alerts", tmp_path / "file")


def test_the_shipped_rules_use_only_metrics_in_the_catalogue() -> None:
    out = io.StringIO()
    code = check(Registry.installed(), None, False, out)

    assert code == 0, out.getvalue()


def test_unknown_metrics_and_broken_links_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"groups": [{"rules": [{"alert": "A", "expr": "no_such_metric > 1", "for": "1m"}]}]}
    files = {"alerts": {"a.rules.yml": yaml.safe_dump(rules).encode()}, "dashboards": {"a.json": b'{"uid": "x"}'}}
    monkeypatch.setattr("deckwatch.pack.alerts.shipped", files.__getitem__)
    out = io.StringIO()

    assert check(Registry.installed(), None, False, out) == 3
    assert "A: metric no_such_metric is not in the catalogue\n" in out.getvalue()
    assert "A: runbook_url does not lead to a shipped runbook\n" in out.getvalue()
    assert "A: dashboard_url does not lead to a shipped dashboard\n" in out.getvalue()


def test_every_shipped_alert_works_without_recorded_series(tmp_path: Path) -> None:
    rules = shipped_rules()
    expressions = {alert.name: without_recorded(alert.expr, rules.recorded, "15s") for alert in rules.alerts}

    for alert in rules.alerts:
        assert names_in(expressions[alert.name]) == metrics_of(alert.expr, rules.recorded), alert.name
    path = tmp_path / "expanded.rules.yml"
    group = {"name": "all", "rules": [{"alert": name, "expr": expr} for name, expr in expressions.items()]}
    path.write_text(yaml.safe_dump({"groups": [group]}))
    checked = subprocess.run(
        [installed("promtool"), "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
