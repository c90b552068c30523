"""PgBouncer: clients, server connections, waiting times and throughput of the pools."""

from __future__ import annotations

from .dashboard import Dashboard
from .panels import (
    BYTES_PER_SECOND,
    COUNT,
    OPERATIONS,
    RATIO,
    SECONDS,
    YES_NO,
    graph,
    problem_stat,
    rate_graph,
    ratio_graph,
    row,
    stat,
    top_list,
    value_table,
)
from .query import BY_TARGET, TARGET

_BY_POOL = f"{BY_TARGET}, database, user"
_POOL = f"{TARGET} {{{{database}}}}/{{{{user}}}}"
_BY_DATABASE = f"{BY_TARGET}, database"
_DATABASE = f"{TARGET} {{{{database}}}}"
_CLIENTS = "pgbouncer_used_clients{@target} / (pgbouncer_config_max_client_connections{@target} > 0)"
_SERVERS = (
    'pgbouncer_databases_current_connections{@target, name!="pgbouncer"}'
    " / (pgbouncer_databases_pool_size{@target} + pgbouncer_databases_reserve_pool{@target} > 0)"
)


def _rate(name: str) -> str:
    return f"sum by ({_BY_DATABASE}) (rate(pgbouncer_stats_totals_{name}{{@pool}}[@rate]))"


DASHBOARD = Dashboard(
    name="pgbouncer",
    title="PgBouncer",
    question="Do clients get server connections quickly, and are the pools large enough?",
    instances="pgbouncer_up",
    targets="pgbouncer_up",
    tags=["postgres"],
    panels=[
        problem_stat(
            "PgBouncers down",
            "PgBouncers that the agent cannot query. Check that each runs, and that the agent's user is in "
            "stats_users.",
            "sum(pgbouncer_up{@target} == bool 0)",
        ),
        problem_stat(
            "Clients waiting",
            "Clients that wait for a server connection. If this lasts, the pool is too small or queries are slow: see "
            "the pools below.",
            "sum(pgbouncer_pools_client_waiting_connections{@pool})",
        ),
        problem_stat(
            "Longest wait",
            "Time that the first client in a queue has waited. Above query_wait_timeout, PgBouncer disconnects it: "
            "raise pool_size, or find long transactions.",
            "max(pgbouncer_pools_client_maxwait_seconds{@pool})",
            unit=SECONDS,
        ),
        problem_stat(
            "Clients in use",
            "Share of max_client_conn that is used, on the fullest PgBouncer. At 100 %, new clients are refused: raise "
            "it, and the limit on open files with it.",
            f"max({_CLIENTS})",
            unit=RATIO,
            bad_from=0.8,
        ),
        problem_stat(
            "Paused or disabled databases",
            "Databases to which clients cannot connect. If nobody is working on them, run `RESUME` or `ENABLE` on the "
            "admin console.",
            "sum(pgbouncer_databases_paused{@target}) + sum(pgbouncer_databases_disabled{@target})",
        ),
        stat(
            "Queries",
            "Queries per second of the chosen PgBouncers together.",
            OPERATIONS,
            {"": "sum(rate(pgbouncer_stats_totals_queries_pooled_total{@pool}[@rate]))"},
        ),
        value_table(
            "PgBouncers",
            "One row per PgBouncer, those that are down first. Log in to the admin console for details: `SHOW POOLS`.",
            BY_TARGET,
            {
                "up": (COUNT, "pgbouncer_up{@target}"),
                "+version": ("", "pgbouncer_version_info{@target}"),
                "clients": (COUNT, "pgbouncer_used_clients{@target}"),
                "max. clients": (COUNT, "pgbouncer_config_max_client_connections{@target}"),
                "servers": (COUNT, "pgbouncer_used_servers{@target}"),
                "waiting": (COUNT, f"sum by ({BY_TARGET}) (pgbouncer_pools_client_waiting_connections{{@pool}})"),
            },
            sort="up",
            descending=False,
            height=7,
        ),
        value_table(
            "Pools",
            "Clients and server connections of each pool. If clients wait while no server is idle, the pool is too "
            "small or queries are slow.",
            _BY_POOL,
            {
                "active clients": (COUNT, "pgbouncer_pools_client_active_connections{@pool}"),
                "waiting clients": (COUNT, "pgbouncer_pools_client_waiting_connections{@pool}"),
                "longest wait": (SECONDS, "pgbouncer_pools_client_maxwait_seconds{@pool}"),
                "active servers": (COUNT, "pgbouncer_pools_server_active_connections{@pool}"),
                "idle servers": (COUNT, "pgbouncer_pools_server_idle_connections{@pool}"),
            },
            sort="longest wait",
            height=7,
        ),
        row("Clients"),
        ratio_graph(
            "Clients used",
            "Share of max_client_conn. At 100 %, new clients are refused: raise it, or find the application that leaks "
            "connections.",
            {TARGET: _CLIENTS},
        ),
        graph(
            "Waiting clients",
            "Clients of each pool that wait for a server connection. If this lasts, raise pool_size, or find the long "
            "transactions that hold connections.",
            COUNT,
            {_POOL: "pgbouncer_pools_client_waiting_connections{@pool}"},
        ),
        graph(
            "Longest waiting time",
            "Time that the first client in the queue of each pool has waited. PgBouncer disconnects clients after "
            "query_wait_timeout.",
            SECONDS,
            {_POOL: "pgbouncer_pools_client_maxwait_seconds{@pool}"},
        ),
        graph(
            "Mean waiting time",
            "Time that clients waited for a server connection, divided by the number of transactions. Above a few "
            "milliseconds, the pool is too small.",
            SECONDS,
            {_DATABASE: f"{_rate('client_wait_seconds_total')} / ({_rate('sql_transactions_pooled_total')} > 0)"},
        ),
        top_list(
            "Clients by application",
            "Client connections by database, user and application. An application with more connections than its pool "
            "size leaks them.",
            COUNT,
            f"{_POOL} {{{{application_name}}}}",
            f"sum by ({_BY_POOL}, application_name) (pgbouncer_client_connections{{@pool}})",
        ),
        graph(
            "Logins in progress",
            "Clients that are logging in. If the number stays high, the auth_query is slow or the server is "
            "unreachable.",
            COUNT,
            {TARGET: "pgbouncer_login_clients{@target}"},
        ),
        row("Server connections"),
        graph(
            "Server connections by state",
            "Connections to PostgreSQL of the chosen PgBouncers together. If idle stays at 0 while clients wait, raise "
            "pool_size.",
            COUNT,
            {
                state: f"sum(pgbouncer_pools_server_{state}_connections{{@pool}})"
                for state in ("active", "idle", "used", "testing", "login")
            },
            stacked=True,
        ),
        ratio_graph(
            "Pool usage",
            "Server connections of each database as a share of its pool size and reserve. A database with several "
            "users has one pool for each, so more than 100 % is possible.",
            {f"{TARGET} {{{{name}}}}": _SERVERS},
        ),
        value_table(
            "Databases",
            "Configured databases. A database that is paused or disabled accepts no queries.",
            f"{BY_TARGET}, name, host, port, pool_mode",
            {
                "connections": (COUNT, 'pgbouncer_databases_current_connections{@target, name!="pgbouncer"}'),
                "pool size": (COUNT, 'pgbouncer_databases_pool_size{@target, name!="pgbouncer"}'),
                "paused": (YES_NO, 'pgbouncer_databases_paused{@target, name!="pgbouncer"}'),
                "disabled": (YES_NO, 'pgbouncer_databases_disabled{@target, name!="pgbouncer"}'),
            },
            sort="connections",
            width=8,
        ),
        row("Throughput"),
        graph(
            "Queries and transactions",
            "Per second. If transactions drop while clients wait, server connections are held: look for sessions that "
            "are idle in transaction.",
            OPERATIONS,
            {
                f"{_DATABASE} queries": _rate("queries_pooled_total"),
                f"{_DATABASE} transactions": _rate("sql_transactions_pooled_total"),
            },
        ),
        graph(
            "Mean duration",
            "Mean duration of queries and transactions. If transactions take far longer than their queries, the "
            "application is idle in transaction.",
            SECONDS,
            {
                f"{_DATABASE} query": f"{_rate('queries_duration_seconds_total')}"
                f" / ({_rate('queries_pooled_total')} > 0)",
                f"{_DATABASE} transaction": f"{_rate('server_in_transaction_seconds_total')}"
                f" / ({_rate('sql_transactions_pooled_total')} > 0)",
            },
        ),
        rate_graph(
            "Traffic",
            "Bytes received from clients and sent to them.",
            BYTES_PER_SECOND,
            {
                "received": "pgbouncer_stats_totals_received_bytes_total{@pool}",
                "sent": "pgbouncer_stats_totals_sent_bytes_total{@pool}",
            },
            by=_BY_DATABASE,
        ),
    ],
)
