"""PgBouncer, from its admin console, under pgbouncer_exporter's names (https://www.pgbouncer.org/usage.html).

The console is a database called `pgbouncer` that speaks the simple query protocol and knows `SHOW`, little else. Its
columns differ between versions: a figure that a version does not give is absent.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator, model_validator

from deckwatch.exporter import Counter, Duration, Exporter, Finding, Gauge, Secret, Settings, Target, Unreachable
from deckwatch_exporters.clients.libpq import NotConnected, QueryError, Session, checked_dsn, has_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from deckwatch.exporter import Context, Metric, Sample

UP = Gauge("pgbouncer_up", "Whether PgBouncer's admin console could be read.")
VERSION = Gauge("pgbouncer_version_info", "PgBouncer's version, always 1.", ["version"])

_DATABASE = ("name", "host", "port", "database", "force_user", "pool_mode")
_RESERVE = Gauge(
    "pgbouncer_databases_reserve_pool",
    "Server connections that the database's pools may open beyond theirs.",
    _DATABASE,
)
#: By the column of SHOW DATABASES.
DATABASES = {
    "pool_size": Gauge("pgbouncer_databases_pool_size", "Most server connections of a pool.", _DATABASE),
    "reserve_pool": _RESERVE,
    "reserve_pool_size": _RESERVE,  # since 1.24
    "max_connections": Gauge(
        "pgbouncer_databases_max_connections", "Most server connections of the database, 0 where unlimited.", _DATABASE
    ),
    "current_connections": Gauge(
        "pgbouncer_databases_current_connections", "Server connections of the database.", _DATABASE
    ),
    "paused": Gauge("pgbouncer_databases_paused", "Whether the database is paused.", _DATABASE),
    "disabled": Gauge("pgbouncer_databases_disabled", "Whether the database is disabled.", _DATABASE),
}

_POOL = ("database", "user")
MAXWAIT = Gauge(
    "pgbouncer_pools_client_maxwait_seconds",
    "How long the client that is first in the queue has waited for a server connection, in seconds.",
    _POOL,
)
#: By the column of SHOW POOLS.
POOLS = {
    "cl_active": Gauge(
        "pgbouncer_pools_client_active_connections", "Clients linked to a server connection, or idle.", _POOL
    ),
    "cl_waiting": Gauge(
        "pgbouncer_pools_client_waiting_connections", "Clients that wait for a server connection.", _POOL
    ),
    "cl_active_cancel_req": Gauge(
        "pgbouncer_pools_client_active_cancel_connections",
        "Clients whose cancel request was forwarded and that wait for the server's answer.",
        _POOL,
    ),
    "cl_waiting_cancel_req": Gauge(
        "pgbouncer_pools_client_waiting_cancel_connections",
        "Clients whose cancel request has not been forwarded yet.",
        _POOL,
    ),
    "sv_active": Gauge("pgbouncer_pools_server_active_connections", "Servers linked to a client.", _POOL),
    "sv_active_cancel": Gauge(
        "pgbouncer_pools_server_active_cancel_connections", "Servers that forward a cancel request.", _POOL
    ),
    "sv_being_canceled": Gauge(
        "pgbouncer_pools_server_being_canceled_connections",
        "Servers that stay out of use until the cancel requests sent to them have ended.",
        _POOL,
    ),
    "sv_idle": Gauge("pgbouncer_pools_server_idle_connections", "Servers that a client can use at once.", _POOL),
    "sv_used": Gauge(
        "pgbouncer_pools_server_used_connections",
        "Servers idle for longer than server_check_delay, to be checked before they are used.",
        _POOL,
    ),
    "sv_tested": Gauge(
        "pgbouncer_pools_server_testing_connections",
        "Servers that run server_reset_query or server_check_query.",
        _POOL,
    ),
    "sv_login": Gauge("pgbouncer_pools_server_login_connections", "Servers that are logging in.", _POOL),
    "maxwait": MAXWAIT,
}

#: By the column of SHOW STATS_TOTALS (since 1.8).
STATS = {
    "query_count": Counter("pgbouncer_stats_totals_queries_pooled_total", "Queries pooled.", ["database"]),
    "query_time": Counter(
        "pgbouncer_stats_totals_queries_duration_seconds_total",
        "Time that servers spent on executing queries, in seconds.",
        ["database"],
    ),
    "bytes_received": Counter(
        "pgbouncer_stats_totals_received_bytes_total", "Network traffic received, in bytes.", ["database"]
    ),
    "bytes_sent": Counter("pgbouncer_stats_totals_sent_bytes_total", "Network traffic sent, in bytes.", ["database"]),
    "wait_time": Counter(
        "pgbouncer_stats_totals_client_wait_seconds_total",
        "Time that clients waited for a server connection, in seconds.",
        ["database"],
    ),
    "xact_count": Counter("pgbouncer_stats_totals_sql_transactions_pooled_total", "Transactions pooled.", ["database"]),
    "xact_time": Counter(
        "pgbouncer_stats_totals_server_in_transaction_seconds_total",
        "Time that servers spent in a transaction, executing or idle, in seconds.",
        ["database"],
    ),
    "client_parse_count": Counter(
        "pgbouncer_stats_totals_client_parses_total", "Prepared statements that clients created.", ["database"]
    ),
    "server_parse_count": Counter(
        "pgbouncer_stats_totals_server_parses_total", "Prepared statements created on servers.", ["database"]
    ),
    "bind_count": Counter(
        "pgbouncer_stats_totals_binds_total", "Prepared statements readied for execution.", ["database"]
    ),
    "server_assignment_count": Counter(
        "pgbouncer_stats_totals_server_assignments_total", "Times that a server was given to a client.", ["database"]
    ),
}
_MICROSECONDS = frozenset({"query_time", "wait_time", "xact_time"})

#: By the row of SHOW LISTS.
LISTS = {
    "databases": Gauge("pgbouncer_databases", "Databases."),
    "users": Gauge("pgbouncer_users", "Users."),
    "pools": Gauge("pgbouncer_pools", "Pools."),
    "free_clients": Gauge("pgbouncer_free_clients", "Client connections allocated and free."),
    "used_clients": Gauge("pgbouncer_used_clients", "Client connections in use."),
    "login_clients": Gauge("pgbouncer_login_clients", "Clients that are logging in."),
    "free_servers": Gauge("pgbouncer_free_servers", "Server connections allocated and free."),
    "used_servers": Gauge("pgbouncer_used_servers", "Server connections in use."),
    "dns_names": Gauge("pgbouncer_cached_dns_names", "DNS names in the cache."),
    "dns_zones": Gauge("pgbouncer_cached_dns_zones", "DNS zones in the cache."),
    "dns_queries": Gauge("pgbouncer_in_flight_dns_queries", "DNS queries under way."),
}

#: By the row of SHOW CONFIG.
CONFIG = {
    "max_client_conn": Gauge("pgbouncer_config_max_client_connections", "Most client connections (max_client_conn)."),
    "max_user_connections": Gauge(
        "pgbouncer_config_max_user_connections", "Most server connections of a user (max_user_connections)."
    ),
}

CLIENTS = Gauge(
    "pgbouncer_client_connections",
    "Client connections; `other` stands for the application names over the budget.",
    ["database", "user", "application_name", "state"],
)
OVER_BUDGET = Gauge(
    "pgbouncer_client_application_names_over_budget", "Application names that are counted under `other`."
)

#: A result set, each row by column. NULL is None.
Rows = list[dict[str, str | None]]


def parse_rows(columns: Sequence[str], rows: Iterable[Sequence[bytes | None]]) -> Rows:
    """What came over the wire as text; bytes that are not UTF-8 stay apart from each other, as escapes."""
    return [
        {
            column: None if value is None else value.decode(errors="backslashreplace")
            for column, value in zip(columns, row, strict=True)
        }
        for row in rows
    ]


def databases(rows: Rows) -> Iterator[Sample]:
    for row in rows:
        yield from _figures(row, DATABASES, {label: row.get(label) or "" for label in _DATABASE})


def pools(rows: Rows) -> Iterator[Sample]:
    for row in rows:
        labels = {label: row.get(label) or "" for label in _POOL}
        for sample in _figures(row, POOLS, labels):
            if sample.series.metric is MAXWAIT:
                # The whole seconds; the rest of it is a column of its own.
                yield MAXWAIT(sample.value + (_number(row, "maxwait_us") or 0) / 1e6, **labels)
            else:
                yield sample


def stats_totals(rows: Rows) -> Iterator[Sample]:
    for row in rows:
        database = row.get("database") or ""
        for column, metric in STATS.items():
            value = _number(row, column)
            if value is not None:
                yield metric(value / 1e6 if column in _MICROSECONDS else value, database=database)


def lists(rows: Rows) -> Iterator[Sample]:
    return _figures({row["list"] or "": row["items"] for row in rows}, LISTS, {})


def config(rows: Rows) -> Iterator[Sample]:
    return _figures({row["key"] or "": row["value"] for row in rows}, CONFIG, {})


def _figures(
    row: Mapping[str, str | None], metrics: Mapping[str, Metric], labels: Mapping[str, str]
) -> Iterator[Sample]:
    for column, metric in metrics.items():
        value = _number(row, column)
        if value is not None:
            yield metric(value, **labels)


def _number(row: Mapping[str, str | None], column: str) -> float | None:
    """None for NULL and for what this version does not have. Raises ValueError."""
    text = row.get(column)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{column} is not a number: {text[:40]!r}") from None


def older_version(number: int) -> str:
    """What SHOW VERSION would say, of a version before 1.12: its answer is a notice there, and no row.

    `number` is the version as libpq counts it (10801 for 1.8.1), 0 where it is not known. Empty for newer ones.
    """
    return f"PgBouncer {number // 10000}.{number // 100 % 100}.{number % 100}" if 0 < number < 11200 else ""


class ClientGroups:
    """SHOW CLIENTS counted by database, user, application name and state.

    Applications choose their names themselves. The first `budget` names, the most frequent first, have series of
    their own, and keep them for as long as they have clients; the others are counted as `other`.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._named: set[str] = set()

    def samples(self, rows: Rows) -> Iterator[Sample]:
        # The application's name is there since 1.18.
        clients = [tuple(row.get(label) or "" for label in CLIENTS.labels) for row in rows]
        names = collections.Counter(name for _, _, name, _ in clients)
        self._named &= names.keys()
        newcomers = sorted(names.keys() - self._named, key=lambda name: (-names[name], name))
        self._named.update(newcomers[: self._budget - len(self._named)])
        counts = collections.Counter(
            (database, user, name if name in self._named else "other", state) for database, user, name, state in clients
        )
        for (database, user, name, state), count in counts.items():
            yield CLIENTS(count, database=database, user=user, application_name=name, state=state)
        yield OVER_BUDGET(len(names) - len(self._named))


#: The console's database.
CONSOLE = "pgbouncer"


class PgBouncerSettings(Settings):
    """One PgBouncer: its admin console, as a user of `stats_users` (or `admin_users`).

    `timeout` (seconds) is how long an answer may take. `application_names` is how many of them have series of their
    own in `pgbouncer_client_connections`; with 0 the clients are not counted at all.
    """

    dsn: Secret
    password: Secret | None = None
    timeout: Duration = 3.0
    application_names: Annotated[int, Field(ge=0, le=10_000)] = 100

    @field_validator("dsn")
    @classmethod
    def _is_a_dsn(cls, dsn: Secret) -> Secret:
        return Secret(
            checked_dsn(
                dsn.get_secret_value(),
                "a DSN such as postgresql://user@host:6432/pgbouncer, or host=... port=... user=...",
            )
        )

    @model_validator(mode="after")
    def _one_password(self) -> PgBouncerSettings:
        if self.password is not None and self.password.get_secret_value() and has_password(self.dsn.get_secret_value()):
            raise ValueError("only one of: a password in dsn, password (or password_file)")
        return self


class PgBouncer:
    """The collector of one PgBouncer. Its connection is kept, so that a full `max_client_conn` does not blind it."""

    def __init__(self, settings: PgBouncerSettings) -> None:
        self._settings = settings
        self._clients = ClientGroups(settings.application_names)
        self._session: Session | None = None
        self._version = ""

    def collect(self) -> Iterable[Sample]:
        try:
            return list(self._samples())
        except (NotConnected, QueryError) as failure:
            raise Unreachable(explain(str(failure))) from None

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def connect(self) -> Session:
        """The session, connected. Raises NotConnected, QueryError."""
        if self._session is None:
            parts = conninfo(self._settings)
            from psycopg.conninfo import make_conninfo  # conninfo() tells when it is missing

            self._session = Session(make_conninfo(**parts), self._settings.timeout, limits=False, setup=self._learn)
        self._session.connect()
        return self._session

    def _learn(self, session: Session) -> None:
        self._version = older_version(session.version) or _show(session, "VERSION")[0]["version"] or ""

    def _samples(self) -> Iterator[Sample]:
        session = self.connect()
        yield VERSION(1, version=self._version)
        yield from lists(_show(session, "LISTS"))
        yield from config(_show(session, "CONFIG"))
        yield from databases(_show(session, "DATABASES"))
        yield from pools(_show(session, "POOLS"))
        yield from stats_totals(_show(session, "STATS_TOTALS"))
        if self._settings.application_names:
            yield from self._clients.samples(_show(session, "CLIENTS"))


def _show(session: Session, what: str) -> Rows:
    result = session.query(f"SHOW {what}")
    return parse_rows(result.columns, result.rows)


def conninfo(settings: PgBouncerSettings) -> dict[str, str]:
    """The connection parameters of libpq, its own default for the user included.

    Raises NotConnected when the DSN is none, or none of the console; what it holds is not repeated.
    """
    try:
        from psycopg import ProgrammingError, pq
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as missing:
        raise NotConnected(f"{missing}; pip install 'deckwatch[postgres]'") from None
    try:
        given = conninfo_to_dict(settings.dsn.get_secret_value())
    except ProgrammingError:
        raise NotConnected("the dsn is malformed; it should be like postgresql://user@host:6432/pgbouncer") from None
    defaults = {option.keyword.decode(): (option.val or b"").decode() for option in pq.Conninfo.get_defaults()}
    # PgBouncer refuses startup parameters that it does not know: $PGOPTIONS must not become one.
    parts = {"user": defaults["user"], "dbname": CONSOLE, "options": ""}
    parts |= {name: str(value) for name, value in given.items()}
    if parts["dbname"] != CONSOLE:
        raise NotConnected(f"the dsn names another database than {CONSOLE!r}, which is the admin console")
    if settings.password is not None:
        parts["password"] = settings.password.get_secret_value()
    return parts


def explain(message: str) -> str:
    """What went wrong, and for PgBouncer's terse refusals what they mean."""
    if _is_refused(message):
        return f"{message}: the user is in neither stats_users nor admin_users of pgbouncer.ini"
    return message


def _is_refused(message: str) -> bool:
    """Whether the console was refused to a user who proved who they are (admin_pre_login() in src/admin.c)."""
    return message.endswith("not allowed")


def check(settings: PgBouncerSettings) -> Iterator[Finding]:
    """Whether the user may read the console; other failures are the collector's to tell."""
    watcher = PgBouncer(settings)
    try:
        watcher.connect()
    except (NotConnected, QueryError) as failure:
        if _is_refused(str(failure)):
            user = conninfo(settings)["user"]
            yield Finding(
                "missing",
                f"the user {user!r} may not read the admin console",
                f"in pgbouncer.ini, below [pgbouncer], add it to stats_users (stats_users = {user}); then RELOAD",
            )
    finally:
        watcher.close()


def _open(settings: PgBouncerSettings, _context: Context) -> Target:
    watcher = PgBouncer(settings)
    return Target({"pgbouncer": watcher}, watcher.close)


EXPORTER = Exporter(
    name="pgbouncer",
    settings=PgBouncerSettings,
    open=_open,
    named=True,
    up=UP,
    extra="postgres",
    check=check,
)
