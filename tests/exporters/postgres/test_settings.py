"""Every setting of the PostgreSQL and PgBouncer exporters is documented and has an effect, and every GRANT works."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from databases import PostgresServer, postgres_server
from deckwatch.exporter import Missing
from deckwatch.testing import opened
from deckwatch_exporters.clients.libpq import Session
from deckwatch_exporters.pgbouncer import PgBouncerSettings
from deckwatch_exporters.postgres import EXPORTER
from deckwatch_exporters.postgres.server import Server
from deckwatch_exporters.postgres.settings import PostgresSettings
from deckwatch_exporters.postgres.statement_counts import find_extension
from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        server.execute("CREATE DATABASE shop", "CREATE EXTENSION pg_stat_statements")
        for n in range(3):
            server.execute(f"CREATE TABLE orders_{n} (id serial PRIMARY KEY)")
        server.execute("CREATE TABLE items (id serial PRIMARY KEY)", database="shop")
        yield server


def _documented(page: str) -> dict[str, set[str]]:
    """Return all names in the row, by the settings in the first column."""
    found = {}
    for row in re.findall(r"^\| (`.*?) \| (.*) \|$", (ROOT / "docs" / page).read_text(), re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row[0]):
            found[name] = set(re.findall(r"\w+", row[1]))
    return found


@pytest.mark.parametrize(("page", "model"), [("postgresql.md", PostgresSettings), ("pgbouncer.md", PgBouncerSettings)])
def test_every_setting_is_documented_and_every_documented_setting_exists(page: str, model: type[BaseModel]) -> None:
    documented = _documented(page)

    assert documented.keys() - {"password_file"} == set(model.model_fields)
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            assert set(type(field.default).model_fields) - {"enabled"} <= documented[name]


@pytest.mark.parametrize("name", ["statements", "slow_queries", "tables"])
def test_off_disables_a_part(name: str) -> None:
    dsn = {"dsn": "host=127.0.0.1"}
    assert PostgresSettings.model_validate({**dsn, name: False}) == PostgresSettings.model_validate(
        {**dsn, name: {"enabled": False}}
    )
    assert PostgresSettings.model_validate({**dsn, name: True}) == PostgresSettings.model_validate(dsn)


def _names(server: PostgresServer, **given: Any) -> set[str]:
    with opened(EXPORTER, {"dsn": server.dsn(), **given}) as target:
        collected = target.collect()
        assert collected.errors == {}
        return set(collected.values)


@pytest.mark.parametrize(
    ("given", "gone", "new"),
    [
        ({"statements": False}, r"pg_stat_statements_entries", None),
        ({"slow_queries": False}, r"pg_slow_queries_running|pg_blocked_sessions\{", None),
        ({"tables": False}, r"pg_stat_user_tables_n_live_tup|pg_sequence_used_ratio", None),
        ({"tables": {"top": 1}}, r"pg_stat_user_tables_n_live_tup.*orders_[12]", None),
        ({"tables": {"top_indexes": 0}}, r"pg_stat_user_indexes_idx_scan_total", None),
        ({"exclude_databases": ["shop"]}, r'pg_database_size_bytes.*"shop"', None),
        ({"databases": "all"}, None, r'pg_stat_user_tables_n_live_tup.*"shop"'),
        ({"databases": ["shop"]}, None, r'pg_stat_user_tables_n_live_tup.*"shop"'),
        ({"detailed_activity": True}, None, r"pg_stat_activity_count\{.*wait_event="),
    ],
)
def test_settings_change_the_exported_series(
    given: dict[str, Any], gone: str | None, new: str | None, server: PostgresServer
) -> None:
    before, after = _names(server), _names(server, **given)

    if gone is not None:
        assert [it for it in before if re.match(gone, it)]
        assert not [it for it in after if re.match(gone, it)]
    if new is not None:
        assert not [it for it in before if re.match(new, it)]
        assert [it for it in after if re.match(new, it)]


def test_intervals_and_timeouts_have_an_effect(server: PostgresServer) -> None:
    given = {"databases": "all", "databases_interval": "7m", "timeout": "3s", "lock_timeout": "70ms"}
    with opened(EXPORTER, {"dsn": server.dsn(), **given}) as target:
        assert target.collectors["postgres.databases"].interval == 420
    settings = PostgresSettings.model_validate({"dsn": server.dsn(), **given})
    connection = Server(settings.conninfo, settings.timeout, settings.lock_timeout)
    connection.session.connect()
    for name, value in (("statement_timeout", b"3s"), ("lock_timeout", b"70ms")):
        assert connection.session.query(f"SHOW {name}").rows == [(value,)]
    connection.session.close()


@pytest.mark.parametrize("odd", ["CREATE SCHEMA secret", 'CREATE SCHEMA "Secret ""Schema"""'])
def test_an_extension_in_an_inaccessible_schema_is_reported_with_the_grant(odd: str) -> None:
    schema = odd.removeprefix("CREATE SCHEMA ")
    with postgres_server() as server:
        server.execute(
            odd,
            f"CREATE EXTENSION pg_stat_statements SCHEMA {schema}",
            'CREATE ROLE "The ""Monitor""" LOGIN IN ROLE pg_monitor',
            f"REVOKE ALL ON FUNCTION {schema}.pg_stat_statements(boolean) FROM PUBLIC, pg_read_all_stats",
            f"REVOKE ALL ON {schema}.pg_stat_statements_info FROM PUBLIC",
        )
        dsn = f"host=127.0.0.1 port={server.port} dbname=postgres user='The \"Monitor\"'"
        grants = []
        with opened(EXPORTER, {"dsn": dsn}) as target:
            while "postgres.stat_statements" in (errors := target.collect().errors):
                (finding,) = [
                    it
                    for it in EXPORTER.check(PostgresSettings.model_validate({"dsn": dsn}))
                    if it.state == "missing" and "pg_stat_statements" in it.what
                ]
                assert finding.remedy.removesuffix(";") in errors["postgres.stat_statements"]
                grants.append(finding.remedy)
                server.execute(finding.remedy)
                assert len(grants) <= 3, grants

    role = '"The ""Monitor"""'
    assert grants == [
        f"GRANT USAGE ON SCHEMA {schema} TO {role};",
        f"GRANT EXECUTE ON FUNCTION {schema}.pg_stat_statements(boolean) TO {role};",
        f"GRANT SELECT ON {schema}.pg_stat_statements_info TO {role};",
    ]


def test_the_documented_statements_grant_everything_that_the_role_needs() -> None:
    (statements,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/postgresql.md").read_text(), re.DOTALL)
    with postgres_server() as server:
        server.execute("CREATE SEQUENCE before", "SELECT nextval('before')")
        with server.connect() as connection:
            connection.execute(statements.encode())
        server.execute("CREATE SEQUENCE after", "SELECT nextval('after')")
        given = {"dsn": server.dsn(user="monitor")}
        with opened(EXPORTER, given) as target:
            collected = target.collect()
        findings = list(EXPORTER.check(PostgresSettings.model_validate(given)))

    assert collected.errors == {}
    assert [it for it in findings if it.state != "ok"] == []
    for name in ("before", "after"):
        assert collected.value("pg_sequence_used_ratio", sequencename=name) > 0


def test_a_database_without_the_extension_is_reported_with_the_statement_that_creates_it(
    server: PostgresServer,
) -> None:
    session = Session(server.dsn("shop"), 4.0)
    session.connect()
    with pytest.raises(Missing, match="CREATE EXTENSION pg_stat_statements"):
        find_extension(session, "shop")
    session.close()


def test_an_interval_of_statements_is_refused_because_it_has_no_effect() -> None:
    assert "interval" not in _documented("postgresql.md")["statements"]
    with pytest.raises(ValueError, match=r"statements\.interval"):
        PostgresSettings.model_validate({"dsn": "host=127.0.0.1", "statements": {"interval": "1m"}})
