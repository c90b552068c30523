"""A PostgreSQL server of any version from 13 to 18, as the exporter sees it.

The views of that version are here, filled from `fixtures/postgres-<version>`, in a schema of the installed server
that comes before pg_catalog; the functions whose answer moves are constant. So the exporter's SQL is really executed: a
column that the version does not have is an error, as it would be there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch_exporters.clients.libpq import QueryError, Session
from deckwatch_exporters.postgres.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from databases import PostgresServer
    from deckwatch_exporters.clients.libpq import Result

FIXTURES = Path(__file__).parent.parent / "fixtures"
#: `postgres-15-standby` is the standby of `postgres-15`.
VERSIONS = ("13", "14", "15", "15-standby", "16", "17", "18")
LABEL = "db.example:5432"
DATABASE = "shop"

# PostgreSQL has these as functions of no arguments.
_CONSTANT = {
    "version": "text",
    "now": "timestamptz",
    "pg_postmaster_start_time": "timestamptz",
    "pg_is_in_recovery": "boolean",
    "pg_current_wal_lsn": "pg_lsn",
    "pg_last_wal_receive_lsn": "pg_lsn",
    "pg_last_wal_replay_lsn": "pg_lsn",
    "pg_last_xact_replay_timestamp": "timestamptz",
}
_FUNCTIONS = """
    CREATE TABLE clock AS SELECT 0 AS seconds;  -- since the capture
    CREATE FUNCTION clock_timestamp() RETURNS timestamptz
        LANGUAGE sql AS $$ SELECT now() + seconds * interval '1 s' FROM clock $$;
    CREATE FUNCTION current_database() RETURNS name LANGUAGE sql AS $$ SELECT 'shop'::name $$;
    CREATE FUNCTION pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 0';
    CREATE FUNCTION age(xid) RETURNS int LANGUAGE sql AS 'SELECT 215000000';
    CREATE FUNCTION mxid_age(xid) RETURNS int LANGUAGE sql AS 'SELECT 17';
    CREATE FUNCTION pg_database_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT $1::bigint * 1024';
    CREATE FUNCTION pg_table_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT $1::bigint * 8192';
    CREATE FUNCTION pg_indexes_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT $1::bigint * 4096';
    CREATE FUNCTION pg_relation_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT $1::bigint * 2048';
    CREATE FUNCTION pg_stat_get_live_tuples(oid) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
    CREATE FUNCTION pg_stat_get_dead_tuples(oid) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
    CREATE FUNCTION pg_stat_statements(showtext boolean) RETURNS SETOF pg_stat_statements
        LANGUAGE sql AS 'SELECT * FROM pg_stat_statements';
    CREATE FUNCTION pg_ls_waldir() RETURNS SETOF pg_ls_waldir LANGUAGE sql AS 'SELECT * FROM pg_ls_waldir';
"""


def schema_of(version: str) -> str:
    return f"version_{version.replace('-', '_')}"


def answers(version: str) -> dict[str, str | bool | int | None]:
    found: dict[str, str | bool | int | None] = json.loads(
        (FIXTURES / f"postgres-{version}" / "answers.json").read_text()
    )
    return found


def load(server: PostgresServer, version: str) -> None:
    """Make the schema of a version."""
    schema = schema_of(version)
    given = answers(version)
    with server.connect(options=f"-c search_path={schema},pg_catalog") as connection, connection.transaction():
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        for file in sorted((FIXTURES / f"postgres-{version}").glob("*.tsv")):
            header, _, rows = file.read_text().partition("\n")
            columns = [it.partition(":") for it in header.split("\t")]
            # A table may have no column of the name xmin, a view may.
            table = ", ".join(f"c{n} {kind}" for n, (_, _, kind) in enumerate(columns))
            view = ", ".join(f'c{n} AS "{name}"' for n, (name, _, _) in enumerate(columns))
            connection.execute(f"CREATE TABLE rows_{file.stem} ({table})".encode())
            connection.execute(f"CREATE VIEW {file.stem} AS SELECT {view} FROM rows_{file.stem}".encode())
            with connection.cursor().copy(f"COPY rows_{file.stem} FROM STDIN".encode()) as copy:
                copy.write(rows)
        for name, kind in _CONSTANT.items():
            value = given[name]
            literal = "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"
            connection.execute(
                f"CREATE FUNCTION {name}() RETURNS {kind} LANGUAGE sql AS $$ SELECT {literal}::{kind} $$".encode()
            )
        connection.execute(_FUNCTIONS.encode())
        connection.execute(
            "CREATE TABLE pg_extension AS SELECT 'pg_stat_statements'::name AS extname, %s AS extversion,"
            " current_schema()::regnamespace::oid AS extnamespace",
            [given["extversion"]],
        )
        connection.execute(
            f"GRANT USAGE ON SCHEMA {schema} TO monitor;"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO monitor".encode()
        )


class StandInSession(Session):
    """A session that sees the views of one version first."""

    path = ""
    #: What the server refuses: a part of the statement, and the SQLSTATE.
    refusals: Mapping[str, str] = {}

    def queries(self, statements: Sequence[str]) -> list[Result]:
        for part, sqlstate in self.refusals.items():
            if any(part in statement for statement in statements):
                self.cost.failures += 1
                raise QueryError(sqlstate, f"{part} is currently not supported")
        first, *rest = (statement.replace("pg_catalog.", "") for statement in statements)
        return super().queries([f"SET LOCAL search_path TO {self.path}, pg_catalog;{first}", *rest])


class StandIn(Server):
    """What the exporter takes for a server of the version."""

    def __init__(self, dsn: str, version: str, refusals: Mapping[str, str] | None = None) -> None:
        super().__init__(dsn, 4.0, 0.1)
        self._number = int(answers(version)["server_version_num"] or 0)
        # Without limits: it would take the constant pg_backend_pid() for a pooler's.
        session = StandInSession(dsn, 4.0, limits=False, setup=self.learn)
        session.path = schema_of(version)
        session.refusals = refusals or {}
        self.session = session

    def learn(self, session: Session) -> None:
        session.version = self._number
        session.server = LABEL
        super().learn(session)
