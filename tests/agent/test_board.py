"""The board serves only current values, merges families, and builds each exposition once per change."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from deckwatch.collection.board import NO_TARGET, Board, Selection, UnknownSelectionError
from deckwatch.collection.run import NamedCollector, SeriesBudget, run_once
from deckwatch.metrics.declaration import Counter, Gauge, Metric, Sample
from deckwatch.metrics.encoding import Encoder
from deckwatch.metrics.exposition import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable

UP = Gauge("redis_up", "Whether it is up.")
KEYS = Gauge("redis_db_keys", "Keys.", ["db"])
ALL = Selection()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Fixed:
    def __init__(self, *samples: Sample, error: Exception | None = None) -> None:
        self.samples = samples
        self.error = error

    def collect(self) -> Iterable[Sample]:
        if self.error:
            raise self.error
        return self.samples


class Desk:
    """A board with a fake clock. The test runs collectors explicitly."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.board = Board(self.clock)
        self.collectors: dict[tuple[str, str], tuple[NamedCollector, Encoder]] = {}

    def post(self, name: str, collector: Fixed, target: str = "", prefix: str = "") -> None:
        if (name, target) not in self.collectors:
            named = NamedCollector(name, collector, target)
            self.collectors[name, target] = (named, Encoder())
            self.board.add(named, name.partition(".")[0], prefix, valid_for=45)
        encoder = self.collectors[name, target][1]
        self.board.post(
            run_once(NamedCollector(name, collector, target), encoder, SeriesBudget(1000), self.clock), valid_for=45
        )

    def text(self, selection: Selection = ALL) -> str:
        return self.board.render(selection, openmetrics=False, compress=False).decode()

    def series(self, selection: Selection = ALL) -> dict[str, float]:
        return {
            line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in self.text(selection).splitlines()
            if not line.startswith("#")
        }


def test_targets_of_one_exporter_share_help_and_type_and_differ_in_the_target_label() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")
    desk.post("redis", Fixed(UP(0)), "sessions")

    text = desk.text()

    assert text.count("# TYPE redis_up gauge") == text.count("# HELP redis_up") == 1
    assert 'redis_up{target="cache"} 1\nredis_up{target="sessions"} 0\n' in text


def test_a_failed_run_immediately_removes_the_samples_of_its_collector_only() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")
    desk.post("redis", Fixed(UP(1)), "sessions")
    desk.post("redis", Fixed(error=OSError("gone")), "cache")

    series = desk.series()

    assert 'redis_up{target="cache"}' not in series
    assert series['redis_up{target="sessions"}'] == 1
    assert series['deckwatch_collector_success{target="cache",collector="redis"}'] == 0
    assert series['deckwatch_collector_success{target="sessions",collector="redis"}'] == 1


def test_metrics_without_a_target_can_be_selected_alone() -> None:
    desk = Desk()
    desk.post("system.load", Fixed(UP(1)))
    desk.post("redis", Fixed(UP(0)), "cache")

    series = desk.series(Selection(target=NO_TARGET))

    assert series["redis_up"] == 1
    assert 'deckwatch_collector_success{collector="redis"}' not in series


def test_a_snapshot_that_is_not_renewed_in_time_is_removed_and_marked() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")
    desk.clock.now += 46

    series = desk.series()

    assert 'redis_up{target="cache"}' not in series
    assert series['deckwatch_collector_success{target="cache",collector="redis"}'] == 0
    assert 'deckwatch_snapshot_age_seconds{target="cache",collector="redis"}' not in series


def test_the_last_success_stays_known_while_a_collector_fails() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")
    desk.clock.now += 10
    desk.post("redis", Fixed(error=OSError("gone")), "cache")

    series = desk.series()

    assert series['deckwatch_collector_last_success_timestamp_seconds{target="cache",collector="redis"}'] == 1000


def test_a_collector_that_never_finished_a_run_is_reported_after_its_timeout() -> None:
    desk = Desk()
    desk.board.add(NamedCollector("slow", Fixed()), "slow", "", valid_for=45)
    assert 'deckwatch_collector_success{collector="slow"}' not in desk.series()

    desk.clock.now += 46

    assert desk.series()['deckwatch_collector_success{collector="slow"}'] == 0


def test_the_age_of_a_snapshot_is_updated_in_each_response() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")
    ages = []
    for _ in range(3):
        ages.append(desk.series()['deckwatch_snapshot_age_seconds{target="cache",collector="redis"}'])
        desk.clock.now += 1.5

    assert ages == [0, 1.5, 3]


def test_a_second_scraper_gets_the_same_response_without_rebuilding_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")
    first = desk.text()

    def put_together_again(*_arguments: object, **_options: object) -> None:
        raise AssertionError("put together again")

    monkeypatch.setattr(Plan, "fill", put_together_again)

    assert desk.text() == first


def test_each_change_is_served_in_every_format() -> None:
    desk = Desk()
    for value in (1, 0):
        desk.post("redis", Fixed(UP(value)), "cache")
        for openmetrics in (False, True):
            for compress in (False, True):
                body = desk.board.render(ALL, openmetrics, compress)
                assert f'redis_up{{target="cache"}} {value}\n' in (gzip.decompress(body) if compress else body).decode()


def test_one_target_is_served_alone_and_without_the_label() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1), KEYS(5, db="db0")), "cache")
    desk.post("redis", Fixed(UP(0)), "sessions")

    series = desk.series(Selection(target="cache"))

    assert series["redis_up"] == 1
    assert series['redis_db_keys{db="db0"}'] == 5
    assert series['deckwatch_collector_success{collector="redis"}'] == 1
    assert not any("target=" in name for name in series)


def test_targets_with_and_without_a_metric_are_served_together_under_one_declaration() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1), KEYS(5, db="db0"), KEYS(6, db="db1")), "a")
    desk.post("redis", Fixed(KEYS(7, db="db0")), "b")
    desk.post("redis", Fixed(UP(0), KEYS(8, db="db0")), "c")

    text = desk.text()

    assert text.count("# TYPE redis_up ") == text.count("# TYPE redis_db_keys ") == 1
    assert {name: value for name, value in desk.series().items() if name.startswith("redis_")} == {
        'redis_up{target="a"}': 1,
        'redis_up{target="c"}': 0,
        'redis_db_keys{target="a",db="db0"}': 5,
        'redis_db_keys{target="a",db="db1"}': 6,
        'redis_db_keys{target="b",db="db0"}': 7,
        'redis_db_keys{target="c",db="db0"}': 8,
    }
    assert list(parse_text(text))  # with all samples of a metric in a row


def test_a_conflicting_type_of_one_of_many_targets_is_dropped_and_counted() -> None:
    desk = Desk()
    other = Counter("redis_up", "Of another type.")
    for target in ("a", "b", "c"):
        desk.post("redis", Fixed(UP(1), KEYS(5, db="db0")), target)
    desk.post("other", Fixed(other(9)), "b")
    desk.post("other", Fixed(other(9)), "d")

    series = desk.series()

    assert {name for name in series if name.startswith("redis_up")} == {
        f'redis_up{{target="{target}"}}' for target in ("a", "b", "c")
    }
    assert series["deckwatch_series_conflicting"] == 2


def test_similar_targets_are_each_served_alone_with_their_own_metrics_and_values() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1), KEYS(5, db="db0")), "cache")
    desk.post("redis", Fixed(UP(0), KEYS(6, db="db1")), "sessions")
    desk.post("redis", Fixed(KEYS(7, db="db0")), "queue")

    found = [desk.series(Selection(target=target)) for target in ("cache", "sessions", "queue", "cache")]

    keys = [{name: value for name, value in series.items() if "redis_" in name} for series in found]
    assert keys == [
        {"redis_up": 1, 'redis_db_keys{db="db0"}': 5},
        {"redis_up": 0, 'redis_db_keys{db="db1"}': 6},
        {'redis_db_keys{db="db0"}': 7},
        {"redis_up": 1, 'redis_db_keys{db="db0"}': 5},
    ]


def test_the_last_removed_collector_of_a_target_removes_the_target() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")
    desk.post("redis.keys", Fixed(KEYS(5, db="db0")), "cache")

    desk.board.remove(desk.collectors["redis", "cache"][0])
    assert 'redis_db_keys{db="db0"}' in desk.series(Selection(target="cache"))

    desk.board.remove(desk.collectors["redis.keys", "cache"][0])
    with pytest.raises(UnknownSelectionError, match="unknown target 'cache'"):
        desk.series(Selection(target="cache"))


@pytest.mark.parametrize("name", ["system", "system.cpu", "cpu"])
def test_collectors_are_selected_by_exporter_by_name_or_by_part(name: str) -> None:
    desk = Desk()
    desk.post("system.cpu", Fixed(UP(1)))
    desk.post("redis", Fixed(KEYS(1, db="db0")), "cache")

    series = desk.series(Selection(collect=(name,)))

    assert "redis_up" in series
    assert not any(name.startswith("redis_db_keys") for name in series)


@pytest.mark.parametrize("selection", [Selection(("nope",)), Selection(target="nope"), Selection(target="")])
def test_an_unknown_name_cannot_be_selected(selection: Selection) -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")

    with pytest.raises(UnknownSelectionError, match=r"unknown (target|collector)"):
        desk.text(selection)


def test_a_removed_collector_leaves_no_series_and_its_late_run_is_ignored() -> None:
    desk = Desk()
    desk.post("redis", Fixed(UP(1)), "cache")
    named, encoder = desk.collectors["redis", "cache"]
    desk.board.remove(named)
    desk.board.post(run_once(named, encoder, SeriesBudget(10), desk.clock), 45)

    assert not any("redis" in name for name in desk.series())


def test_success_and_duration_are_also_exported_under_node_exporters_names() -> None:
    desk = Desk()
    desk.post("system.cpu", Fixed(UP(1)), prefix="node")

    series = desk.series()

    assert series['node_scrape_collector_success{collector="cpu"}'] == 1
    assert 'node_scrape_collector_duration_seconds{collector="cpu"}' in series


def test_a_series_that_two_collectors_expose_is_served_once_and_counted() -> None:
    desk = Desk()
    desk.post("one", Fixed(KEYS(1, db="a"), KEYS(1, db="b")))
    desk.post("two", Fixed(KEYS(2, db="b"), KEYS(2, db="c")))

    series = desk.series()

    assert [series[f'redis_db_keys{{db="{db}"}}'] for db in "abc"] == [1, 1, 2]
    assert series["deckwatch_series_conflicting"] == 1
    assert desk.text().count('redis_db_keys{db="b"}') == 1


def test_a_metric_with_a_conflicting_type_is_dropped_and_counted() -> None:
    desk = Desk()
    desk.post("one", Fixed(KEYS(1, db="a")))
    desk.post("two", Fixed(Metric("redis_db_keys", "counter", "Other.", ["db"])(2, db="b")))

    assert desk.series()["deckwatch_series_conflicting"] == 1
    assert desk.text().count("# TYPE redis_db_keys ") == 1


def test_the_exposition_parses_in_both_formats_and_passes_promtool() -> None:
    desk = Desk()
    hits = Counter("redis_keyspace_hits_total", "Hits.")
    odd = Counter("pg_stat_database_xact_commit", "Commits.", ["datname"])
    desk.post("redis", Fixed(UP(1), hits(5), KEYS(3, db='d"b\\0\n')), "cache")
    desk.post("postgres", Fixed(odd(7, datname="app")), "main")

    openmetrics = desk.board.render(ALL, openmetrics=True, compress=False).decode()
    for families in (list(parse_text(desk.text())), list(parse_openmetrics(openmetrics))):
        samples = {sample.name: sample for family in families for sample in family.samples}
        assert samples["redis_keyspace_hits_total"].value == 5
    # The client's text parser appends _total to every counter name, so compare the text.
    for document in (desk.text(), openmetrics):
        assert '\npg_stat_database_xact_commit{target="main",datname="app"} 7\n' in document
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed; make test installs it"
    desk.board.remove(desk.collectors["postgres", "main"][0])  # promtool objects to the peer's name
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=desk.text(), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
