"""The committed JSON is what the code generates, and every dashboard has the common elements."""

from __future__ import annotations

import re

import pytest

from dashboards.boards import FOLDER, NAMES, load, panels
from deckwatch import __version__
from deckwatch_dashboards import DASHBOARDS, palette


def test_the_committed_json_is_what_the_code_generates() -> None:
    made = {dashboard.file_name: dashboard.json() for dashboard in DASHBOARDS}
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert committed.keys() == made.keys() == {f"{name}.json" for name in NAMES}
    stale = [name for name in made if made[name] != committed[name]]
    assert not stale, f"{stale}: run PYTHONPATH=dashboards python -m deckwatch_dashboards"


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_has_a_fixed_uid_its_version_and_a_refresh(name: str) -> None:
    board = load(name)
    assert board["uid"] == f"deckwatch-{name}"
    assert f"Deckwatch {__version__};" in board["description"]
    assert board["refresh"] == "30s"


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_all_dashboards_and_keep_time_and_variables(name: str) -> None:
    board = load(name)
    (link,) = board["links"]
    assert (link["type"], link["tags"], link["keepTime"], link["includeVars"]) == (
        "dashboards",
        ["deckwatch"],
        True,
        True,
    )
    assert "placement" not in link  # newer versions of Grafana would hide the link in a menu
    assert "deckwatch" in board["tags"]


def test_the_links_of_panels_lead_to_dashboards_that_exist() -> None:
    links = [link["url"] for name in NAMES for panel in panels(load(name)) for link in panel.get("links", [])]
    assert links
    for url in links:
        assert re.match(r"/d/deckwatch-(.*)\?", url)[1] in NAMES  # type: ignore[index]
        assert "${__url_time_range}" in url
        assert "${__all_variables}" in url


@pytest.mark.parametrize("name", NAMES)
def test_alerts_and_configuration_loads_are_annotated(name: str) -> None:
    alerts, loads = load(name)["annotations"]["list"]
    assert alerts["expr"].startswith('ALERTS{alertstate="firing", alertname!="Watchdog"')
    assert loads["expr"].startswith("deckwatch_config_last_reload_success_timestamp_seconds{")
    assert loads["useValueForTime"]
    for annotation in (alerts, loads):
        assert annotation["datasource"]["uid"] == "${prometheus_datasource}"
        assert annotation["target"]["expr"] == annotation["expr"]


@pytest.mark.parametrize("name", NAMES)
def test_the_target_can_be_chosen_and_all_targets_include_those_without_the_label(name: str) -> None:
    variables = {it["name"]: it for it in load(name)["templating"]["list"]}
    assert variables["target"]["multi"]
    assert variables["target"]["allValue"] == ".*"


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_without_data_says_why(name: str) -> None:
    silent = [
        panel["title"]
        for panel in panels(load(name))
        if panel["type"] != "text" and not panel["fieldConfig"]["defaults"].get("noValue")
    ]
    assert not silent


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_cell_of_a_table_is_a_dash(name: str) -> None:
    for panel in panels(load(name)):
        if panel["type"] == "table":
            every_field = panel["fieldConfig"]["overrides"][0]
            assert every_field["matcher"] == {"id": "byRegexp", "options": "/.*/"}
            assert every_field["properties"] == [{"id": "noValue", "value": "-"}]


@pytest.mark.parametrize("name", NAMES)
def test_every_description_is_a_sentence(name: str) -> None:
    for panel in panels(load(name)):
        assert re.match(r"[A-Z`].{9,}[.?)]$", panel["description"]), panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap_and_have_different_ids(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in load(name)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]
    ids = [panel["id"] for panel in load(name)["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_only_colors_of_the_palette_are_used(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text()
    known = {value for value in vars(palette).values() if isinstance(value, str) and value.startswith("#")}
    assert set(re.findall(r"#[0-9A-Fa-f]{6}", text)) <= known
    assert not re.search(r'"(green|red|orange|yellow|palette-classic)"', text)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_shows_a_small_picture_of_each_dashboard(name: str) -> None:
    picture = FOLDER / "pictures" / f"{name}.png"
    assert f"(pictures/{name}.png)" in (FOLDER / "README.md").read_text()
    assert picture.stat().st_size <= 150 * 1024
