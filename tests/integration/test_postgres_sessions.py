"""Values do not depend on settings of the role or the database, or on the database encoding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, postgres_server, postgres_standby
from deckwatch.testing import opened
from deckwatch_exporters.clients.libpq import QueryError, Session
from deckwatch_exporters.postgres import EXPORTER
from pgbouncer_server import PASSWORDS, pgbouncer_server
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Settings of a role or a database that could change a result or end the session.
SETTINGS = {
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "default_transaction_read_only": "on",
    "search_path": "trap, pg_catalog, public",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "client_encoding": "EUC_JP",
    "statement_timeout": "50ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "50ms",
    "row_security": "off",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "client_min_messages": "debug5",
    "stats_fetch_consistency": "snapshot",
    "TimeZone": "Asia/Kolkata",
    "lc_messages": "C",
    "lc_numeric": "C",
    "xmlbinary": "hex",
    "work_mem": "64kB",
    "force_parallel_mode": "on",
    "jit_above_cost": "0",
    "enable_hashjoin": "off",
    "enable_nestloop": "off",
    "plan_cache_mode": "force_generic_plan",
    "compute_query_id": "off",
    "pg_stat_statements.track": "none",
    "session_replication_role": "replica",
    "synchronize_seqscans": "off",
}
#: These change between readings without any cause in the test.
_MOVING = re.compile(
    r"pg_(exporter_|replication_last_replay_|locks_count|process_idle|stat_activity_(backends|count|max|wait)|stat_database_numbackends|stat_statements_)"
)

TRAP = (
    "CREATE SCHEMA trap",
    "GRANT USAGE ON SCHEMA trap TO PUBLIC",
    "CREATE VIEW trap.pg_stat_activity AS SELECT pid, datname FROM pg_catalog.pg_stat_activity",
    "CREATE VIEW trap.pg_stat_database AS SELECT 1 AS datid",
    "CREATE VIEW trap.pg_settings AS SELECT 'trap' AS name",
    "CREATE VIEW trap.pg_class AS SELECT 1 AS oid",
    "GRANT SELECT ON ALL TABLES IN SCHEMA trap TO PUBLIC",
    "CREATE FUNCTION trap.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT NULL::boolean'",
    "CREATE FUNCTION trap.pg_backend_pid() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION trap.quote_ident(name) RETURNS text LANGUAGE sql AS 'SELECT ''trap''::text'",
    "CREATE FUNCTION trap.differ(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
    "CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = text, FUNCTION = trap.differ)",
)


@pytest.fixture(scope="module")
def servers() -> Iterator[Mapping[str, PostgresServer]]:
    """A primary and its standby, with the monitoring roles `plain` and `odd`."""
    with postgres_server() as primary, postgres_standby(primary, "second") as standby:
        primary.execute(
            *TRAP,
            "CREATE EXTENSION pg_stat_statements",
            "CREATE ROLE plain LOGIN IN ROLE pg_monitor",
            "CREATE ROLE odd LOGIN IN ROLE pg_monitor",
            'CREATE TABLE "Orders" (id serial PRIMARY KEY, note text)',
            """INSERT INTO "Orders" (note) SELECT 'x' FROM generate_series(1, 1000)""",
            "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO PUBLIC",
            "ANALYZE",
        )
        yield {"primary": primary, "standby": standby}


def _replicate(servers: Mapping[str, PostgresServer]) -> None:
    """Wait until the standby has replayed everything."""
    position = servers["primary"].value("SELECT pg_current_wal_lsn()::text")
    query = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
    until(lambda: servers["standby"].value(query), what="the standby")


def _figures(server: PostgresServer, role: str) -> dict[str, float]:
    with opened(EXPORTER, {"dsn": server.dsn(user=role)}) as target:
        collected = target.collect()
        assert collected.errors == {}
        assert collected.malformed == []
        return collected.values


def _assert_same_figures(server: PostgresServer, names: tuple[str, ...]) -> None:
    _assert_between(_figures(server, "plain"), _figures(server, "odd"), _figures(server, "plain"), names)


def _assert_between(
    before: Mapping[str, float], found: Mapping[str, float], after: Mapping[str, float], names: tuple[str, ...]
) -> None:
    # If the role or the database overrides a setting, the server's value is unknown.
    overridden = tuple(f"pg_settings_{re.sub('[^a-z0-9_]', '_', name.lower())}" for name in names)
    # A standby that has replayed everything has no lag.
    absent_at_times = "pg_stat_replication_lag_seconds"
    expected = {it for it in before if not it.startswith((*overridden, absent_at_times))} & after.keys()
    assert expected - found.keys() == set()
    for series in expected:
        low, high = sorted((before[series], after[series]))
        if not _MOVING.match(series):
            assert low - 1e-9 <= found[series] <= high + 1e-9, series
    assert not [it for it in found if it.startswith("pg_settings_") and it not in before]


def test_role_settings_do_not_change_values(servers: Mapping[str, PostgresServer]) -> None:
    primary = servers["primary"]
    try:
        for name, value in SETTINGS.items():
            primary.execute(f"ALTER ROLE odd SET {name} = {_sql(value)}")
            _assert_same_figures(primary, (name,))
            _replicate(servers)
            _assert_same_figures(servers["standby"], (name,))
            _reset(primary, "ROLE odd")
    finally:
        _reset(primary, "ROLE odd")


def test_database_settings_do_not_change_values(servers: Mapping[str, PostgresServer]) -> None:
    """The unmodified database is read before and after."""
    primary = servers["primary"]
    before = _figures(primary, "plain")
    try:
        with primary.connect() as connection:  # an open session keeps its settings
            for name, value in SETTINGS.items():
                connection.execute(f"ALTER DATABASE postgres SET {name} = {_sql(value)}".encode())
                found = _figures(primary, "plain")
                connection.execute(b"ALTER DATABASE postgres RESET ALL")
                _assert_between(before, found, _figures(primary, "plain"), (name,))
    finally:
        _reset(primary, "DATABASE postgres")


@pytest.mark.parametrize("level", ["ROLE odd", "ROLE odd IN DATABASE postgres"])
def test_all_role_settings_together_do_not_change_values(level: str, servers: Mapping[str, PostgresServer]) -> None:
    primary = servers["primary"]
    try:
        primary.execute(*[f"ALTER {level} SET {name} = {_sql(value)}" for name, value in SETTINGS.items()])
        _replicate(servers)
        _assert_same_figures(primary, tuple(SETTINGS))
        _assert_same_figures(servers["standby"], tuple(SETTINGS))
    finally:
        _reset(primary, level)


def _sql(value: str) -> str:
    return value if "," in value else f"'{value}'"


def _reset(server: PostgresServer, level: str) -> None:
    with server.connect(options="-c search_path=public -c default_transaction_read_only=off") as connection:
        connection.execute(f"ALTER {level} RESET ALL".encode())


def test_a_session_resets_what_its_role_overrides(servers: Mapping[str, PostgresServer]) -> None:
    primary = servers["primary"]
    try:
        primary.execute("ALTER ROLE odd SET idle_session_timeout = '10min'", "ALTER ROLE odd SET search_path = trap")
        session = Session(primary.dsn(user="odd"), 4.0)
        session.connect()
        for name, value in (
            ("idle_session_timeout", b"0"),
            ("search_path", b"pg_catalog, pg_temp"),
            ("transaction_isolation", b"read committed"),
            ("statement_timeout", b"4s"),
        ):
            assert session.query(f"SHOW {name}").rows == [(value,)]
        session.close()
    finally:
        _reset(primary, "ROLE odd")


#: Series whose presence depends on the role's settings or, as the lag of an idle standby, on the moment.
_VARYING = r"pg_settings_(quote_all|extra_float)|pg_stat_activity|pg_process|pg_stat_replication_lag"


def test_behind_a_pooler_role_settings_do_not_change_values(servers: Mapping[str, PostgresServer]) -> None:
    primary = servers["primary"]
    odd = ("search_path", "default_transaction_isolation", "DateStyle", "extra_float_digits", "quote_all_identifiers")
    with pgbouncer_server(primary) as bouncer:
        dsn = f"postgresql://app:{PASSWORDS['app']}@127.0.0.1:{bouncer.port}/app"
        with opened(EXPORTER, {"dsn": dsn}) as target:
            before = target.collect()
        try:
            with primary.connect() as connection:
                for name in odd:
                    connection.execute(f"ALTER ROLE postgres SET {name} = {_sql(SETTINGS[name])}".encode())
            bouncer.console("RECONNECT")
            with opened(EXPORTER, {"dsn": dsn}) as target:
                found = target.collect()
        finally:
            _reset(primary, "ROLE postgres")

    assert before.errors == found.errors == {}
    assert before.values.keys() - found.values.keys() <= {it for it in before.values if re.match(_VARYING, it)}


ENCODINGS = {"SQL_ASCII": "utf-8", "LATIN1": "latin-1", "WIN1252": "cp1252", "EUC_JP": "euc_jp", "UTF8": "utf-8"}
_WORDS = {"EUC_JP": "日本"}


@pytest.fixture(scope="module")
def encoded() -> Iterator[PostgresServer]:
    """A server with a database in each encoding, with statements that the other encodings cannot represent."""
    with postgres_server() as server:
        for encoding in ENCODINGS:
            name = encoding.lower()
            server.execute(
                f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
            )
            word = _WORDS.get(encoding, "café")
            server.execute("CREATE EXTENSION pg_stat_statements", database=name)
            with server.connect(name, client_encoding="sql_ascii" if encoding == "SQL_ASCII" else "utf8") as connection:
                connection.execute(f'CREATE TABLE "{word}" (n int)'.encode())
        server.execute('CREATE ROLE "Zoë" LOGIN', 'CREATE DATABASE "Größe"')
        yield server


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_databases_of_different_encodings_are_monitored_together(encoding: str, encoded: PostgresServer) -> None:
    with opened(EXPORTER, {"dsn": encoded.dsn(encoding.lower()), "databases": "all"}) as target:
        assert target.collect().errors == {}
        with encoded.connect("utf8", client_encoding="utf8") as connection:
            connection.execute('SELECT 1 AS "🐘"')
        with encoded.connect("sql_ascii", client_encoding="sql_ascii") as connection:
            connection.execute(b'SELECT 2 AS "\xff\xfe"')
        collected = target.collect()

    assert collected.errors == {}
    for name in ENCODINGS:
        word = _WORDS.get(name, "café")
        assert collected.value("pg_stat_user_tables_n_live_tup", datname=name.lower(), relname=word) == 0
    assert collected.value("pg_database_size_bytes", datname="Größe") > 0
    assert collected.value("pg_stat_statements_all_calls_total") >= 2
    # Only an SQL_ASCII database can return the texts of all the others.
    assert set(collected.malformed) == (set() if encoding == "SQL_ASCII" else {"pg_stat_statements: query texts"})


def test_text_is_sent_and_received_in_the_database_encoding(encoded: PostgresServer) -> None:
    for encoding in ("LATIN1", "WIN1252", "EUC_JP", "UTF8"):
        word = _WORDS.get(encoding, "café")
        session = Session(encoded.dsn(encoding.lower()), 4.0)
        session.connect()
        query = f"SELECT relname, pg_catalog.length(relname::text) FROM pg_catalog.pg_class WHERE relname = '{word}'"
        assert session.query(query).rows == [(word.encode(), str(len(word)).encode())]
        session.close()


def test_a_disconnected_standby_lags_and_a_streaming_one_does_not() -> None:
    with postgres_server() as primary, postgres_standby(primary, "second") as standby:
        primary.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
        with opened(EXPORTER, {"dsn": standby.dsn()}) as target:

            def lag() -> float | None:
                values = target.collect("postgres.server", "postgres.replication").values
                return next((value for name, value in values.items() if "replication_lag" in name), None)

            until(lambda: lag() == 0, what="the standby to have replayed everything")
            primary.stop()
            until(lambda: (lag() or 0) > 0, what="the lag of the standby that is cut off")
            assert (lag() or 0) > 0
            primary.start()
            until(lambda: lag() == 0, what="the standby to stream again")


def test_a_query_cannot_write(servers: Mapping[str, PostgresServer]) -> None:
    session = Session(servers["primary"].dsn(), 4.0)
    session.connect()
    with pytest.raises(QueryError, match="read-only"):
        session.query("CREATE TABLE public.t (n int)")
    session.close()
