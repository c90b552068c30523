"""Privileges, extensions and settings that a server lacks, with the statements that provide them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Finding, Missing
from deckwatch_exporters.clients.libpq import MARK, NotConnected, QueryError, text

from .server import Server
from .sql_text import quoted
from .statement_counts import find_extension

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import PostgresSettings

_SETTINGS_QUERY = f"""SELECT {MARK} name, setting FROM pg_catalog.pg_settings
WHERE name IN ('track_io_timing', 'compute_query_id')"""
# The condition under which the view pg_sequences shows the last value.
_HIDDEN_SEQUENCES_QUERY = f"""SELECT {MARK} pg_catalog.count(*),
    pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(n.nspname), ', ')
FROM pg_catalog.pg_sequence AS s JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relpersistence <> 't' AND NOT pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT, USAGE')"""


def findings(settings: PostgresSettings) -> Iterator[Finding]:
    """Yields nothing if the server cannot be reached: the collectors report that."""
    server = Server(settings.conninfo, settings.timeout, settings.lock_timeout)
    try:
        try:
            server.session.connect()
        except QueryError:
            return
        yield from _of(server, settings)
    except NotConnected:
        return
    except QueryError as failure:
        yield Finding("failed", f"the server refused a query of this check: {failure}")
    finally:
        server.session.close()


def _of(server: Server, settings: PostgresSettings) -> Iterator[Finding]:
    if server.sees_all:
        yield Finding("ok", f"{server.user} sees the sessions and statements of all users")
    else:
        yield Finding(
            "missing",
            f"{server.user} sees only its own sessions and statements",
            f"GRANT pg_monitor TO {quoted(server.user)};",
        )
    if settings.statements.enabled:
        yield _statements(server)
    if settings.tables.enabled:
        yield from _sequences(server)
    values = {text(name): text(value) for name, value in server.session.query(_SETTINGS_QUERY)}
    if values.get("track_io_timing") == "off":
        yield Finding(
            "ok", "track_io_timing is off: the server does not measure the time of reading and writing blocks"
        )
    if values.get("compute_query_id") == "off":
        yield Finding(
            "missing",
            "compute_query_id is off: sessions and statements have no queryid",
            "ALTER SYSTEM SET compute_query_id = 'auto'; SELECT pg_reload_conf();",
        )


def _sequences(server: Server) -> Iterator[Finding]:
    ((count, schemas),) = server.session.query(_HIDDEN_SEQUENCES_QUERY)
    if schemas is not None:
        yield Finding(
            "missing",
            f"{server.user} cannot read {text(count)} sequences in database {server.database}:"
            " they are missing from pg_sequence_used_ratio",
            f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {text(schemas)} TO {quoted(server.user)};",
        )


def _statements(server: Server) -> Finding:
    try:
        extension = find_extension(server.session, server.database)
        server.session.query(extension.counts_query)
    except Missing as missing:
        return Finding("missing", missing.what, f"{missing.remedy};")
    except QueryError as failure:
        if failure.sqlstate == "55000":
            return Finding(
                "missing",
                "pg_stat_statements is not loaded",
                "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements';  -- then restart the server",
            )
        return Finding("failed", f"pg_stat_statements: {failure}")
    return Finding("ok", f"pg_stat_statements {extension.version} is available")
