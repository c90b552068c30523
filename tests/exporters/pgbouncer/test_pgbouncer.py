"""Metrics from PgBouncer result sets captured from versions 1.8 to 1.25."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from deckwatch.exporter import Malformed, Metric, Sample
from deckwatch_exporters import pgbouncer
from deckwatch_exporters.clients.libpq import NotConnected
from deckwatch_exporters.clients.samples import Once
from deckwatch_exporters.pgbouncer import PgBouncerSettings, conninfo, figures
from deckwatch_exporters.pgbouncer.figures import ClientGroups, older_version, parse_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.exporter import Samples

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted((file.stem for file in FIXTURES.glob("*.json")), key=lambda version: int(version.split(".")[1]))

DATABASE = ("database", "force_user", "host", "name", "pool_mode", "port")
POOL = ("database", "user")
STATS = ("database",)

#: The metrics of pgbouncer_exporter 0.12.1 (its collector.go), without `pgbouncer_stats_totals_queries_total`, which
#: needs a column `requests` that SHOW STATS_TOTALS does not have in any version.
PEER: dict[str, tuple[str, tuple[str, ...]]] = {
    "pgbouncer_up": ("gauge", ()),
    "pgbouncer_version_info": ("gauge", ("version",)),
    "pgbouncer_databases_pool_size": ("gauge", DATABASE),
    "pgbouncer_databases_reserve_pool": ("gauge", DATABASE),
    "pgbouncer_databases_max_connections": ("gauge", DATABASE),
    "pgbouncer_databases_current_connections": ("gauge", DATABASE),
    "pgbouncer_databases_paused": ("gauge", DATABASE),
    "pgbouncer_databases_disabled": ("gauge", DATABASE),
    "pgbouncer_stats_totals_queries_pooled_total": ("counter", STATS),
    "pgbouncer_stats_totals_queries_duration_seconds_total": ("counter", STATS),
    "pgbouncer_stats_totals_received_bytes_total": ("counter", STATS),
    "pgbouncer_stats_totals_sent_bytes_total": ("counter", STATS),
    "pgbouncer_stats_totals_client_wait_seconds_total": ("counter", STATS),
    "pgbouncer_stats_totals_sql_transactions_pooled_total": ("counter", STATS),
    "pgbouncer_stats_totals_server_in_transaction_seconds_total": ("counter", STATS),
    "pgbouncer_stats_totals_client_parses_total": ("counter", STATS),
    "pgbouncer_stats_totals_server_parses_total": ("counter", STATS),
    "pgbouncer_stats_totals_binds_total": ("counter", STATS),
    "pgbouncer_stats_totals_server_assignments_total": ("counter", STATS),
    "pgbouncer_pools_client_active_connections": ("gauge", POOL),
    "pgbouncer_pools_client_active_cancel_connections": ("gauge", POOL),
    "pgbouncer_pools_client_waiting_connections": ("gauge", POOL),
    "pgbouncer_pools_client_waiting_cancel_connections": ("gauge", POOL),
    "pgbouncer_pools_server_active_connections": ("gauge", POOL),
    "pgbouncer_pools_server_active_cancel_connections": ("gauge", POOL),
    "pgbouncer_pools_server_being_canceled_connections": ("gauge", POOL),
    "pgbouncer_pools_server_idle_connections": ("gauge", POOL),
    "pgbouncer_pools_server_used_connections": ("gauge", POOL),
    "pgbouncer_pools_server_testing_connections": ("gauge", POOL),
    "pgbouncer_pools_server_login_connections": ("gauge", POOL),
    "pgbouncer_pools_client_maxwait_seconds": ("gauge", POOL),
    "pgbouncer_databases": ("gauge", ()),
    "pgbouncer_users": ("gauge", ()),
    "pgbouncer_pools": ("gauge", ()),
    "pgbouncer_free_clients": ("gauge", ()),
    "pgbouncer_used_clients": ("gauge", ()),
    "pgbouncer_login_clients": ("gauge", ()),
    "pgbouncer_free_servers": ("gauge", ()),
    "pgbouncer_used_servers": ("gauge", ()),
    "pgbouncer_cached_dns_names": ("gauge", ()),
    "pgbouncer_cached_dns_zones": ("gauge", ()),
    "pgbouncer_in_flight_dns_queries": ("gauge", ()),
    "pgbouncer_config_max_client_connections": ("gauge", ()),
    "pgbouncer_config_max_user_connections": ("gauge", ()),
    "pgbouncer_client_connections": ("gauge", ("application_name", "database", "state", "user")),
}

CANCEL = {
    "pgbouncer_pools_client_active_cancel_connections",
    "pgbouncer_pools_client_waiting_cancel_connections",
    "pgbouncer_pools_server_active_cancel_connections",
    "pgbouncer_pools_server_being_canceled_connections",
}
PREPARED = {
    "pgbouncer_stats_totals_client_parses_total",
    "pgbouncer_stats_totals_server_parses_total",
    "pgbouncer_stats_totals_binds_total",
}
ASSIGNMENTS = {"pgbouncer_stats_totals_server_assignments_total"}

ABSENT = {
    "1.8.1": CANCEL | PREPARED | ASSIGNMENTS,
    "1.12.0": CANCEL | PREPARED | ASSIGNMENTS,
    "1.16.0": CANCEL | PREPARED | ASSIGNMENTS,
    "1.18.0": PREPARED | ASSIGNMENTS,
    "1.21.0": PREPARED | ASSIGNMENTS,
    "1.24.1": set(),
    "1.25.2": set(),
}


def captured(version: str) -> dict[str, figures.Rows]:
    answers: dict[str, figures.Rows] = json.loads((FIXTURES / f"{version}.json").read_text())
    return answers


def samples(version: str) -> list[Sample]:
    found = samples_of(captured(version))
    assert not [it for it in found if isinstance(it, Malformed)]
    return [it for it in found if isinstance(it, Sample)]


def samples_of(answers: dict[str, figures.Rows]) -> list[Sample | Malformed]:
    return [
        *figures.lists(answers["LISTS"]),
        *figures.config(answers["CONFIG"]),
        *figures.databases(answers["DATABASES"]),
        *figures.pools(answers["POOLS"]),
        *figures.stats_totals(answers["STATS_TOTALS"]),
        *ClientGroups(100).samples(answers["CLIENTS"]),
    ]


def by_series(found: Samples) -> dict[str, float]:
    """Return values by `name{label="value"}`. Assert that no series is repeated and nothing is malformed."""
    values: dict[str, float] = {}
    for sample in found:
        assert isinstance(sample, Sample), sample
        text = sample.series.text.rstrip()
        assert text not in values
        values[text] = sample.value
    return values


def test_names_types_and_labels_match_pgbouncer_exporter() -> None:
    declared = {
        metric.name: (metric.type, tuple(sorted(metric.labels)))
        for metric in pgbouncer.EXPORTER.metrics
        if isinstance(metric, Metric)
    }

    own = {"pgbouncer_client_application_names_over_budget"}
    assert {name: found for name, found in declared.items() if name not in own} == PEER


@pytest.mark.parametrize("version", VERSIONS)
def test_only_metrics_that_a_version_does_not_support_are_absent(version: str) -> None:
    found = {sample.series.name for sample in samples(version)}

    own = {"pgbouncer_client_application_names_over_budget"}
    assert found - own == PEER.keys() - {"pgbouncer_up", "pgbouncer_version_info"} - ABSENT[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_no_series_is_repeated_in_any_version(version: str) -> None:
    assert by_series(samples(version))


@pytest.mark.parametrize("version", VERSIONS)
def test_waiting_and_active_clients_are_exported_in_every_version(version: str) -> None:
    found = by_series(samples(version))
    names = ("shop", "reports") if int(version.split(".")[1]) >= 18 else ("", "")

    pools = {
        name: value for name, value in found.items() if name.startswith("pgbouncer_pools_") and 'database="app"' in name
    }
    assert [value for name, value in pools.items() if "client_active_connections" in name] == [1]
    assert [value for name, value in pools.items() if "client_waiting_connections" in name] == [1]
    assert [value for name, value in pools.items() if "server_active_connections" in name] == [1]
    for name, state in zip(names, ("active", "waiting"), strict=True):
        labels = f'database="app",user="app",application_name="{name}",state="{state}"'
        assert found[f"pgbouncer_client_connections{{{labels}}}"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_microseconds_are_converted_to_seconds(version: str) -> None:
    row = next(row for row in captured(version)["STATS_TOTALS"] if row["database"] == "app")
    found = by_series(samples(version))

    for column, name in (
        ("query_time", "queries_duration_seconds_total"),
        ("xact_time", "server_in_transaction_seconds_total"),
        ("wait_time", "client_wait_seconds_total"),
    ):
        value = found[f'pgbouncer_stats_totals_{name}{{database="app"}}']
        assert value == pytest.approx(int(row[column] or "") / 1_000_000)
    # Three queries of 50 ms had run.
    assert 0.15 <= found['pgbouncer_stats_totals_queries_duration_seconds_total{database="app"}'] < 10


@pytest.mark.parametrize("version", VERSIONS)
def test_the_version_is_known_if_the_console_has_no_row_for_it(version: str) -> None:
    major, minor, patch = map(int, version.split("."))
    row = captured(version)["VERSION"]

    assert (older_version(10000 * major + 100 * minor + patch) or row[0]["version"]) == f"PgBouncer {version}"
    assert older_version(0) == ""


def test_the_longest_wait_combines_the_seconds_and_microseconds_columns() -> None:
    row = {"database": "app", "user": "app", "maxwait": "3", "maxwait_us": "250000"}
    older = {"database": "app", "user": "app", "maxwait": "3"}
    series = 'pgbouncer_pools_client_maxwait_seconds{database="app",user="app"}'

    assert by_series(figures.pools([dict(row)])) == {series: 3.25}
    assert by_series(figures.pools([dict(older)])) == {series: 3}


def test_null_is_an_empty_label_or_an_absent_value() -> None:
    row = {"name": "pgbouncer", "host": None, "port": "6432", "database": "pgbouncer", "pool_size": "2", "paused": None}
    labels = 'name="pgbouncer",host="",port="6432",database="pgbouncer",force_user="",pool_mode=""'

    assert by_series(figures.databases([dict(row)])) == {f"pgbouncer_databases_pool_size{{{labels}}}": 2}


@pytest.mark.parametrize("text", ["many", "", "nan", "(null)", "1,5"])
def test_a_value_that_is_not_a_number_is_malformed(text: str) -> None:
    row: dict[str, str | None] = {"database": "app", "user": "app", "cl_active": text, "cl_waiting": "2"}

    found = list(figures.pools([row]))
    assert found[0] == Malformed("pgbouncer_pools_client_active_connections", text)
    assert by_series(found[1:]) == {'pgbouncer_pools_client_waiting_connections{database="app",user="app"}': 2}


def test_a_negative_counter_is_malformed_and_a_negative_gauge_is_not() -> None:
    assert list(figures.stats_totals([{"database": "app", "query_count": "-1"}])) == [
        Malformed("pgbouncer_stats_totals_queries_pooled_total", "-1")
    ]
    assert by_series(figures.config([{"key": "max_client_conn", "value": "-1"}])) == {
        "pgbouncer_config_max_client_connections": -1
    }


@pytest.mark.parametrize("version", VERSIONS)
@given(data=st.data())
@examples(max_examples=30, deadline=None)
def test_a_changed_field_affects_at_most_the_series_of_its_row(version: str, data: st.DataObject) -> None:
    answers = captured(version)
    what = data.draw(st.sampled_from(["LISTS", "CONFIG", "DATABASES", "POOLS", "STATS_TOTALS"]))
    row = data.draw(st.sampled_from(answers[what]))
    column = data.draw(st.sampled_from(sorted(row)))
    untouched = {what: [it for it in rows if it is not row] for what, rows in answers.items()}
    kept = {it.series.text: it.value for it in samples_of(untouched) if isinstance(it, Sample)}
    if data.draw(st.booleans()):
        del row[column]
    else:
        row[column] = data.draw(st.sampled_from([None, "", "-5", "(null)", "1e400", "18446744073709551616", "\udcff"]))

    after = {it.series.text: it.value for it in samples_of(answers) if isinstance(it, Sample)}

    assert {series: after.get(series) for series in kept} == kept


def test_a_repeated_series_affects_only_itself() -> None:
    class Pools:
        def collect(self) -> Samples:
            row: dict[str, str | None] = {"database": "app", "user": "app", "cl_active": "1"}
            return figures.pools([row, {**row, "cl_active": "2"}])

    series = 'pgbouncer_pools_client_active_connections{database="app",user="app"}'
    first, repeated = Once(Pools()).collect()
    assert isinstance(first, Sample)
    assert by_series([first]) == {series: 1}
    assert repeated == Malformed("repeated series", series)


def test_names_that_are_not_utf8_stay_distinct_and_readable() -> None:
    rows = parse_rows(("database", "user", "cl_active"), [(b"app", b"\xff", b"1"), (b"app", b"\xfe", b"2")])

    found = by_series(figures.pools(rows))
    assert found == {
        'pgbouncer_pools_client_active_connections{database="app",user="\\\\xff"}': 1,
        'pgbouncer_pools_client_active_connections{database="app",user="\\\\xfe"}': 2,
    }


def clients(**names: int) -> figures.Rows:
    """The given number of clients for each application name."""
    return [
        {"database": "app", "user": "app", "application_name": name, "state": "active"}
        for name, count in names.items()
        for _ in range(count)
    ]


def applications(found: Iterable[Sample]) -> dict[str, float]:
    return {
        dict(sample.series.labels)["application_name"]: sample.value
        for sample in found
        if sample.series.metric is figures.CLIENTS
    }


def test_application_names_over_the_budget_are_counted_as_other() -> None:
    found = list(ClientGroups(2).samples(clients(web=5, cron=1, worker=3, shell=1)))

    assert applications(found) == {"web": 5, "worker": 3, "other": 2}
    assert found[-1].series.name == "pgbouncer_client_application_names_over_budget"
    assert found[-1].value == 2


def test_an_application_keeps_its_series_while_it_has_clients() -> None:
    groups = ClientGroups(1)

    assert applications(groups.samples(clients(web=2, cron=1))) == {"web": 2, "other": 1}
    assert applications(groups.samples(clients(web=1, cron=9))) == {"web": 1, "other": 9}
    assert applications(groups.samples(clients(cron=9))) == {"cron": 9}


@given(
    runs=st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=3)), max_size=30), max_size=5),
    budget=st.integers(1, 4),
)
def test_every_client_is_counted_once_for_any_names(runs: list[list[tuple[str, str]]], budget: int) -> None:
    groups = ClientGroups(budget)
    for run in runs:
        rows: figures.Rows = [
            {"database": database, "user": "u", "application_name": name, "state": "active"} for database, name in run
        ]
        found = [sample for sample in groups.samples(rows) if sample.series.metric is figures.CLIENTS]

        assert len(by_series(found)) == len(found)
        assert sum(sample.value for sample in found) == len(run)
        assert len({dict(sample.series.labels)["application_name"] for sample in found}) <= budget + 1
        by_database: Counter[str] = Counter()
        for sample in found:
            by_database[dict(sample.series.labels)["database"]] += int(sample.value)
        assert by_database == Counter(database for database, _ in run)


def settings(**given: Any) -> PgBouncerSettings:
    return PgBouncerSettings.model_validate(given)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://monitor@db.example:6432/pgbouncer",
        "postgres://monitor@db.example:6432",
        "host=db.example port=6432 user=monitor",
        "postgresql+psycopg://monitor@db.example:6432/pgbouncer",
    ],
)
def test_a_dsn_is_a_url_or_keywords_and_refers_to_the_console(dsn: str) -> None:
    parts = conninfo(settings(dsn=dsn, password="p w'd"))

    assert parts == {
        "host": "db.example", "port": "6432", "user": "monitor", "dbname": "pgbouncer", "password": "p w'd",
        "options": "",
    }  # fmt: skip


def test_the_default_user_is_that_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGUSER", "somebody")

    assert conninfo(settings(dsn="host=db.example"))["user"] == "somebody"


def test_a_dsn_with_another_database_is_rejected_with_the_reason() -> None:
    with pytest.raises(NotConnected, match="the dsn names a database other than the admin console"):
        conninfo(settings(dsn="postgresql://monitor@127.0.0.1:6432/app"))


def test_a_malformed_dsn_is_rejected_without_being_quoted() -> None:
    with pytest.raises(NotConnected) as refused:
        conninfo(settings(dsn="host=127.0.0.1 password=my secret"))
    assert "malformed" in str(refused.value)
    assert "secret" not in str(refused.value)

    with pytest.raises(ValidationError) as invalid:
        settings(dsn="s3cret-and-no-dsn")
    assert "a DSN such as postgresql://user@host:6432/pgbouncer" in str(invalid.value)


def test_psycopg_is_loaded_only_when_needed_and_named_if_it_is_missing() -> None:
    program = """
import sys
from deckwatch.exporter import Context, Unreachable
from deckwatch_exporters.pgbouncer import EXPORTER, PgBouncerSettings
opened = EXPORTER.open(PgBouncerSettings(dsn="postgresql://a@127.0.0.1/pgbouncer"), Context())
assert "psycopg" not in sys.modules
sys.modules["psycopg"] = None
try:
    opened.collectors["pgbouncer"].collect()
except Unreachable as failure:
    print(failure)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert done.stderr == ""
    assert "pip install 'deckwatch[postgres]'" in done.stdout
