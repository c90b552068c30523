"""Capture the fixtures `postgres-*`: `python tests/exporters/postgres/capture.py`, with `tests` in PYTHONPATH.

The views of a real primary and of its standby, of the version that is installed; those of the other versions have the
same rows in the columns that their documentation lists, and made-up figures where the installed one has no such column.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from databases import PostgresServer, postgres_program, postgres_server
from services import until

if TYPE_CHECKING:
    import psycopg

FIXTURES = Path(__file__).parent.parent / "fixtures"

_SETTINGS = (
    "autovacuum", "autovacuum_naptime", "autovacuum_vacuum_cost_delay", "autovacuum_vacuum_scale_factor",
    "bgwriter_delay", "checkpoint_timeout", "log_min_duration_statement", "log_rotation_age", "log_rotation_size",
    "max_connections", "max_wal_size", "old_snapshot_threshold", "server_version_num", "shared_buffers",
    "statement_timeout", "temp_file_limit", "track_io_timing", "transaction_read_only", "wal_segment_size", "work_mem",
)  # fmt: skip
#: The columns are those of the query: `*` for a view with all that it has.
QUERIES = {
    "pg_class": "SELECT oid, relname, relnamespace, relkind, relpersistence, relpages, reltuples, reltoastrelid,"
    " reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    "pg_database": "SELECT oid, datname, datistemplate, datallowconn, datconnlimit, datfrozenxid, datminmxid"
    " FROM pg_database",
    "pg_locks": "SELECT * FROM pg_locks WHERE pid <> pg_backend_pid()",
    "pg_ls_waldir": "SELECT * FROM pg_ls_waldir()",
    "pg_replication_slots": "SELECT * FROM pg_replication_slots",
    "pg_roles": "SELECT oid, rolname, rolcanlogin, rolconnlimit FROM pg_roles WHERE oid >= 16384 OR oid = 10",
    "pg_settings": "SELECT name, setting, unit, short_desc, vartype, source, reset_val FROM pg_settings"
    f" WHERE name IN {_SETTINGS}",
    "pg_stat_activity": "SELECT * FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    "pg_stat_archiver": "SELECT * FROM pg_stat_archiver",
    "pg_stat_bgwriter": "SELECT * FROM pg_stat_bgwriter",
    "pg_stat_database": "SELECT * FROM pg_stat_database",
    "pg_stat_database_conflicts": "SELECT * FROM pg_stat_database_conflicts",
    "pg_stat_progress_vacuum": "SELECT * FROM pg_stat_progress_vacuum",
    "pg_stat_replication": "SELECT * FROM pg_stat_replication",
    "pg_stat_statements": "SELECT * FROM pg_stat_statements WHERE query ~ 'pgbench' ORDER BY queryid",
    "pg_stat_statements_info": "SELECT * FROM pg_stat_statements_info",
    "pg_stat_user_indexes": "SELECT * FROM pg_stat_user_indexes",
    "pg_stat_user_tables": "SELECT * FROM pg_stat_user_tables",
    "pg_stat_wal_receiver": "SELECT * FROM pg_stat_wal_receiver",
    "pg_statio_user_indexes": "SELECT * FROM pg_statio_user_indexes",
    "pg_statio_user_tables": "SELECT * FROM pg_statio_user_tables",
}
#: What functions answer.
ANSWERS = """SELECT version(), now()::text AS now, pg_postmaster_start_time()::text, pg_is_in_recovery(),
    CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END AS pg_current_wal_lsn,
    pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text, pg_last_xact_replay_timestamp()::text,
    (SELECT extversion FROM pg_extension WHERE extname = 'pg_stat_statements') AS extversion"""

_CHECKPOINTER = {
    "num_timed": ("bigint", "41"), "num_requested": ("bigint", "7"), "num_done": ("bigint", "19"),
    "restartpoints_timed": ("bigint", "3"), "restartpoints_req": ("bigint", "2"), "restartpoints_done": ("bigint", "1"),
    "write_time": ("double precision", "86512"), "sync_time": ("double precision", "112.5"),
    "buffers_written": ("bigint", "9876"), "slru_written": ("bigint", "54"),
}  # fmt: skip
_NEW_IN_18 = ("num_done", "slru_written")
Columns = dict[str, tuple[str, str]]
#: By first version, the columns that a view gained since 15, with type and a made-up value.
GAINED: dict[int, dict[str, Columns]] = {
    16: {
        "pg_stat_database_conflicts": {"confl_active_logicalslot": ("bigint", "4")},
        "pg_stat_user_tables": {
            "last_seq_scan": ("timestamp with time zone", "2026-01-01 00:00:00+00"),
            "last_idx_scan": ("timestamp with time zone", "2026-01-01 00:00:01+00"),
            "n_tup_newpage_upd": ("bigint", "12"),
        },
        "pg_stat_user_indexes": {"last_idx_scan": ("timestamp with time zone", "2026-01-01 00:00:01+00")},
        "pg_replication_slots": {"conflicting": ("boolean", "f")},
    },
    17: {
        "pg_stat_progress_vacuum": {
            "max_dead_tuple_bytes": ("bigint", "67108864"),
            "dead_tuple_bytes": ("bigint", "262144"),
            "num_dead_item_ids": ("bigint", "50000"),
            "indexes_total": ("bigint", "1"),
            "indexes_processed": ("bigint", "0"),
        },
        "pg_replication_slots": {
            "inactive_since": ("timestamp with time zone", "2026-01-01 00:00:02+00"),
            "invalidation_reason": ("text", r"\N"),
            "failover": ("boolean", "f"),
            "synced": ("boolean", "f"),
        },
    },
    18: {
        "pg_stat_database": {
            "parallel_workers_to_launch": ("bigint", "8"),
            "parallel_workers_launched": ("bigint", "6"),
        },
        "pg_stat_progress_vacuum": {"delay_time": ("double precision", "17.25")},
        "pg_replication_slots": {"two_phase_at": ("pg_lsn", r"\N")},
        "pg_stat_user_tables": {
            "total_vacuum_time": ("double precision", "11.5"),
            "total_autovacuum_time": ("double precision", "12.5"),
            "total_analyze_time": ("double precision", "13.5"),
            "total_autoanalyze_time": ("double precision", "14.5"),
        },
    },
}
#: By first version, the columns of 15 that are gone; by last version, those of 15 that were not there yet.
GONE = {
    17: {
        "pg_stat_bgwriter": (
            "checkpoints_timed", "checkpoints_req", "checkpoint_write_time", "checkpoint_sync_time",
            "buffers_checkpoint", "buffers_backend", "buffers_backend_fsync",
        ),
        "pg_stat_progress_vacuum": ("max_dead_tuples", "num_dead_tuples"),
    },
}  # fmt: skip
NOT_YET = {
    13: {
        "pg_stat_database": (
            "session_time", "active_time", "idle_in_transaction_time", "sessions", "sessions_abandoned",
            "sessions_fatal", "sessions_killed",
        ),
        "pg_stat_activity": ("query_id",),
        "pg_locks": ("waitstart",),
        "pg_replication_slots": ("two_phase",),
    },
}  # fmt: skip

_JIT = ("jit_functions", "jit_generation_time", "jit_inlining_count", "jit_inlining_time", "jit_optimization_count",
        "jit_optimization_time", "jit_emission_count", "jit_emission_time")  # fmt: skip
#: pg_stat_statements by the extension's version, each as a change of the one before.
STATEMENTS_GAINED: dict[str, tuple[str, ...]] = {
    "1.8": (
        "userid", "dbid", "queryid", "query", "plans", "total_plan_time", "min_plan_time", "max_plan_time",
        "mean_plan_time", "stddev_plan_time", "calls", "total_exec_time", "min_exec_time", "max_exec_time",
        "mean_exec_time", "stddev_exec_time", "rows", "shared_blks_hit", "shared_blks_read", "shared_blks_dirtied",
        "shared_blks_written", "local_blks_hit", "local_blks_read", "local_blks_dirtied", "local_blks_written",
        "temp_blks_read", "temp_blks_written", "blk_read_time", "blk_write_time", "wal_records", "wal_fpi", "wal_bytes",
    ),
    "1.9": ("toplevel",),
    "1.10": ("temp_blk_read_time", "temp_blk_write_time", *_JIT),
    "1.11": ("stats_since", "minmax_stats_since"),
    "1.12": ("wal_buffers_full", "parallel_workers_to_launch", "parallel_workers_launched"),
}  # fmt: skip
EXTENSION = {13: "1.8", 14: "1.9", 15: "1.10", 16: "1.10", 17: "1.11", 18: "1.12"}

Table = tuple[list[str], list[str], list[list[str]]]  # names, types, rows as COPY writes them


def read(connection: psycopg.Connection[Any], query: str) -> Table:
    cursor = connection.execute(query.encode())
    assert cursor.description is not None
    columns = {column.name: column.type_code for column in cursor.description}
    types = [
        str(connection.execute("SELECT format_type(%s, -1)", [code]).fetchone()[0])  # type: ignore[index]
        for code in columns.values()
    ]
    with cursor.copy(f"COPY ({query}) TO STDOUT".encode()) as copy:
        rows = [bytes(row).decode().rstrip("\n").split("\t") for row in copy]
    return list(columns), types, rows


def write(folder: Path, name: str, table: Table) -> None:
    names, types, rows = table
    header = "\t".join(f"{name}:{kind}" for name, kind in zip(names, types, strict=True))
    (folder / f"{name}.tsv").write_text("\n".join([header, *("\t".join(row) for row in sorted(rows))]) + "\n")


def capture(server: PostgresServer, folder: Path) -> tuple[dict[str, Table], dict[str, object]]:
    folder.mkdir(exist_ok=True)
    with server.connect("shop") as connection:
        with connection.transaction():
            tables = {name: read(connection, query) for name, query in QUERIES.items()}
            cursor = connection.execute(ANSWERS.encode())
            assert cursor.description is not None
            row = cursor.fetchone()
            assert row is not None
        answers = dict(zip((column.name for column in cursor.description), row, strict=True))
        answers["server_version_num"] = connection.info.server_version
    for name, table in tables.items():
        write(folder, name, table)
    (folder / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
    return tables, answers


def without(table: Table, gone: tuple[str, ...]) -> Table:
    kept = [n for n, name in enumerate(table[0]) if name not in gone]
    names, types, rows = table
    return [names[n] for n in kept], [types[n] for n in kept], [[row[n] for n in kept] for row in rows]


def with_columns(table: Table, gained: Columns) -> Table:
    names, types, rows = table
    return (
        [*names, *gained],
        [*types, *(kind for kind, _ in gained.values())],
        [[*row, *(value for _, value in gained.values())] for row in rows],
    )


def statements(table: Table, version: str) -> Table:
    """pg_stat_statements as another version of the extension has it."""
    order = list(STATEMENTS_GAINED)
    wanted = [name for it in order[: order.index(version) + 1] for name in STATEMENTS_GAINED[it]]
    names, types, rows = table
    for name in wanted:
        if name not in names:
            kind = "timestamp with time zone" if name.endswith("since") else "bigint"
            made_up = "2026-01-01 00:00:00+00" if name.endswith("since") else "1"
            names, types, rows = with_columns((names, types, rows), {name: (kind, made_up)})
    table = without((names, types, rows), tuple(name for name in names if name not in wanted))
    if version in ("1.11", "1.12"):  # 17 tells shared and local blocks apart
        renamed = {"blk_read_time": "shared_blk_read_time", "blk_write_time": "shared_blk_write_time"}
        table = [renamed.get(name, name) for name in table[0]], table[1], table[2]
        table = with_columns(
            table, {f"local_blk_{what}_time": ("double precision", "0.5") for what in ("read", "write")}
        )
    return table


def derive(version: int, real: dict[str, Table], answers: dict[str, object]) -> None:
    folder = FIXTURES / f"postgres-{version}"
    folder.mkdir(exist_ok=True)
    tables = dict(real)
    for since, gone in GONE.items():
        for name, columns in gone.items():
            tables[name] = without(tables[name], columns if version >= since else ())
    for until_version, missing in NOT_YET.items():
        for name, columns in missing.items():
            tables[name] = without(tables[name], columns if version <= until_version else ())
    for since, gained in GAINED.items():
        for name, new in gained.items():
            tables[name] = with_columns(tables[name], new if version >= since else {})
    if version >= 17:
        added = {it: made_up for it, made_up in _CHECKPOINTER.items() if version >= 18 or it not in _NEW_IN_18}
        added["stats_reset"] = ("timestamp with time zone", "2026-01-01 00:00:00+00")
        tables["pg_stat_checkpointer"] = with_columns(([], [], [[]]), added)
        names, types, rows = tables["pg_settings"]
        tables["pg_settings"] = names, types, [row for row in rows if row[0] != "old_snapshot_threshold"]
    extension = EXTENSION[version]
    tables["pg_stat_statements"] = statements(tables["pg_stat_statements"], extension)
    if extension == "1.8":
        del tables["pg_stat_statements_info"]
    for name, table in tables.items():
        write(folder, name, table)
    text = str(answers["version"]).replace(str(answers["version"]).split()[1], f"{version}.1", 1)
    mine = {**answers, "version": text, "server_version_num": version * 10000 + 1, "extversion": extension}
    (folder / "answers.json").write_text(json.dumps(mine, indent=1) + "\n")


def _standby(primary: PostgresServer, home: Path) -> list[str]:
    """A standby's data and its command line; a replication slot of its own."""
    folder = home / "standby"
    subprocess.run(
        [postgres_program("pg_basebackup"), "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "-D",
         str(folder), "-R", "-C", "-S", "standby", "-c", "fast"],
        check=True, user=primary.as_user or None, cwd="/",
    )  # fmt: skip
    return [postgres_program("postgres"), "-D", str(folder)]


def main() -> None:
    settings = {"wal_level": "logical", "track_io_timing": "on", "archive_mode": "on", "archive_command": "true",
                "max_slot_wal_keep_size": "1GB"}  # fmt: skip
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(postgres_server(**settings))
        primary.execute("CREATE DATABASE shop", "CREATE ROLE app LOGIN CONNECTION LIMIT 20", "CREATE ROLE web LOGIN")
        primary.execute("CREATE EXTENSION pg_stat_statements", "ALTER SCHEMA public OWNER TO app", database="shop")
        flags = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", "app", "shop"]
        pgbench = [postgres_program("pgbench"), *flags]
        command = _standby(primary, primary.folder)
        port = primary.port + 1
        command += ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1",
                    "-c", f"unix_socket_directories={primary.folder}",
                    "-c", "shared_preload_libraries=pg_stat_statements", "-c", "cluster_name=second"]  # fmt: skip
        standby = PostgresServer(command, primary.folder / "standby", port, as_user=primary.as_user)
        standby.start()
        stack.callback(standby.stop)
        subprocess.run([*pgbench, "-i", "-q"], check=True, capture_output=True)
        subprocess.run([*pgbench, "-t", "100", "-c", "2"], check=True, capture_output=True)
        primary.execute(
            "SELECT pg_create_logical_replication_slot('changes', 'test_decoding')",
            "DELETE FROM pgbench_accounts WHERE aid % 2 = 0",
            "SELECT pg_switch_wal()",
            database="shop",
        )
        until(lambda: primary.value("SELECT archived_count FROM pg_stat_archiver") > 0, 20, "an archived file")
        holder = stack.enter_context(primary.connect("shop", "app", application_name="billing"))
        holder.execute("BEGIN; UPDATE pgbench_branches SET bbalance = bbalance + 1")
        waiter = subprocess.Popen(
            [postgres_program("psql"), *flags, "-c", "UPDATE pgbench_branches SET bbalance = 0 WHERE bid = 1"]
        )
        vacuum = subprocess.Popen(
            [postgres_program("psql"), "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres", "shop",
             "-c", "SET vacuum_cost_delay = 100", "-c", "SET vacuum_cost_limit = 10", "-c", "VACUUM pgbench_accounts"]
        )  # fmt: skip
        until(lambda: primary.value("SELECT count(*) FROM pg_stat_progress_vacuum", "shop") > 0, 20, "a VACUUM")
        time.sleep(2)
        version = primary.value("SELECT current_setting('server_version_num')::int / 10000")
        tables, answers = capture(primary, FIXTURES / f"postgres-{version}")
        capture(standby, FIXTURES / f"postgres-{version}-standby")
        for process in (waiter, vacuum):
            process.terminate()
            process.wait()
    if version != 15:
        sys.exit("the columns of the other versions are told as changes of 15")
    for other in (13, 14, 16, 17, 18):
        derive(other, tables, answers)


if __name__ == "__main__":
    main()
