"""The PostgreSQL dashboard's panels on tables, indexes, VACUUM and sequences."""

from __future__ import annotations

from .panels import BYTES, COUNT, OPERATIONS, RATIO, TIME, graph, ratio_graph, row, top_list, value_table
from .postgres_queries import BY_DATABASE, DB, WITH_DATABASE

_TABLE = f"{WITH_DATABASE} {{{{schemaname}}}}.{{{{relname}}}}"
_BY_TABLE = f"{BY_DATABASE}, schemaname, relname"
_BY_INDEX = f"{_BY_TABLE}, indexrelname"
_DEAD = f"pg_stat_user_tables_n_dead_tup{{{DB}}}"
_LIVE = f"pg_stat_user_tables_n_live_tup{{{DB}}}"
_DEAD_SHARE = f"{_DEAD} / ({_DEAD} + {_LIVE} > 0)"
_BLOAT = f"topk(30, max by ({_BY_TABLE}) (pg_stat_user_tables_table_size_bytes{{{DB}}} * ({_DEAD_SHARE})) > 0)"
_INDEX_SCANS = f"rate(pg_stat_user_tables_idx_scan{{{DB}}}[@rate])"
_TABLE_SCANS = f"rate(pg_stat_user_tables_seq_scan{{{DB}}}[@rate])"

PANELS = (
    row("Tables and indexes"),
    graph(
        "Size of databases",
        "Size on disk. If it jumps, look at the largest tables.",
        BYTES,
        {WITH_DATABASE: f"pg_database_size_bytes{{{DB}}}"},
    ),
    top_list(
        "Largest tables",
        "Size of each table with its indexes and TOAST.",
        BYTES,
        _TABLE,
        f"pg_stat_user_tables_size_bytes{{{DB}}}",
    ),
    top_list(
        "Sequential scans",
        "Rows read by scans of whole tables, per second. If a large table is always in this list, it lacks an index: "
        "see `deckwatch advise postgres`.",
        OPERATIONS,
        _TABLE,
        f"rate(pg_stat_user_tables_seq_tup_read{{{DB}}}[@rate]) > 0",
        no_data="No table was scanned.",
    ),
    ratio_graph(
        "Index usage",
        "Share of scans that use an index, for the tables with the lowest. A low value on a large table means that an "
        "index is missing.",
        {_TABLE: f"{_INDEX_SCANS} / ({_INDEX_SCANS} + {_TABLE_SCANS} > 0)"},
        show_lowest=True,
    ),
    value_table(
        "Unused indexes",
        "The largest indexes without a scan in the last day. They slow down writes. Drop them only if the standbys do "
        "not use them either and they enforce no constraint.",
        _BY_INDEX,
        {
            "size": (
                BYTES,
                f"topk(30, max by ({_BY_INDEX}) (pg_index_size_bytes{{{DB}}}) and on ({_BY_INDEX})"
                f" (max by ({_BY_INDEX}) (increase(pg_stat_user_indexes_idx_scan_total{{{DB}}}[1d])) == 0))",
            )
        },
        sort="size",
        width=8,
        no_data="Every index was used in the last day.",
    ),
    value_table(
        "Duplicate indexes",
        "Indexes on the same columns as another index. They cost disk space and slow down writes: drop one of the two.",
        f"{_BY_INDEX}, duplicate_of",
        {"size": (BYTES, f"pg_duplicate_index_size_bytes{{{DB}}}")},
        sort="size",
        width=8,
        no_data="There are no duplicate indexes.",
    ),
    row("VACUUM and sequences"),
    value_table(
        "Bloat",
        "Tables with the most space held by dead rows, estimated from their share of all rows. If a table was not "
        "vacuumed for long, find the transaction or slot that stops VACUUM, or lower its "
        "autovacuum_vacuum_scale_factor.",
        _BY_TABLE,
        {
            "dead rows, size": (BYTES, _BLOAT),
            "dead rows, share": (RATIO, f"({_DEAD_SHARE}) and on ({_BY_TABLE}) ({_BLOAT})"),
            "last autovacuum": (
                TIME,
                f"(pg_stat_user_tables_last_autovacuum{{{DB}}} > 0) * 1000 and on ({_BY_TABLE}) ({_BLOAT})",
            ),
        },
        sort="dead rows, size",
        width=16,
        no_data="No table has dead rows.",
    ),
    top_list(
        "Dead rows",
        "Dead rows as a share of the number at which autovacuum starts. Above 100 %, autovacuum is due; above 300 %, "
        "it does not keep up.",
        RATIO,
        _TABLE,
        f"{_DEAD} / pg_stat_user_tables_autovacuum_threshold{{{DB}}}",
    ),
    ratio_graph(
        "Progress of VACUUM",
        "Share of the table that each running VACUUM has processed. If it does not move, VACUUM waits for a lock or is "
        "throttled.",
        {
            f"{WITH_DATABASE} {{{{relname}}}}": f"pg_stat_progress_vacuum_heap_blks_vacuumed{{{DB}}}"
            f" / (pg_stat_progress_vacuum_heap_blks{{{DB}}} > 0)"
        },
        no_data="No VACUUM is running.",
    ),
    top_list(
        "Sequences near their end",
        "Share of each sequence, or of the range of its column, that is used. Above 80 %, change the column to bigint.",
        RATIO,
        f"{WITH_DATABASE} {{{{schemaname}}}}.{{{{sequencename}}}}",
        f"pg_sequence_used_ratio{{{DB}}}",
        maximum=1,
    ),
    graph(
        "Tables",
        "Tables of each database, and those without separate series, because `tables.top` is lower.",
        COUNT,
        {
            f"{WITH_DATABASE} all": f"pg_user_tables{{{DB}}}",
            f"{WITH_DATABASE} without series": f"pg_user_tables_left_out{{{DB}}} > 0",
        },
    ),
)
