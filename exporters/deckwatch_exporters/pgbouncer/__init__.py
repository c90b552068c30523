"""PgBouncer, from its admin console, under the names of pgbouncer_exporter (https://www.pgbouncer.org/usage.html).

The console is a database named `pgbouncer` that supports the simple query protocol and few commands besides `SHOW`.
The columns depend on the version: metrics that a version does not have are absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator, model_validator

from deckwatch.exporter import (
    Duration,
    Exporter,
    Finding,
    Gauge,
    KeyFigure,
    Malformed,
    Sample,
    Secret,
    Settings,
    Target,
    Unreachable,
)
from deckwatch_exporters.clients.dsn import checked_dsn, require_one_password
from deckwatch_exporters.clients.libpq import NotConnected, QueryError, Session
from deckwatch_exporters.clients.samples import Once

from .figures import (
    VERSION,
    ClientGroups,
    Rows,
    config,
    databases,
    lists,
    older_version,
    parse_rows,
    pools,
    stats_totals,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Context, Samples

UP = Gauge("pgbouncer_up", "Whether PgBouncer's admin console could be read (1) or not (0).")
#: The console's database.
CONSOLE = "pgbouncer"


class PgBouncerSettings(Settings):
    """The admin console of a PgBouncer. The user must be in `stats_users` or `admin_users`.

    `timeout` limits the time for an answer (seconds). `application_names` is the number of names with their own series
    in `pgbouncer_client_connections`; 0 turns these series off.
    """

    dsn: Secret
    password: Secret | None = None
    timeout: Duration = 3.0
    application_names: Annotated[int, Field(ge=0, le=10_000)] = 100

    @field_validator("dsn")
    @classmethod
    def _is_a_dsn(cls, dsn: Secret) -> Secret:
        example = "a DSN such as postgresql://user@host:6432/pgbouncer, or host=... port=... user=..."
        return Secret(checked_dsn(dsn.get_secret_value(), example))

    @model_validator(mode="after")
    def _one_password(self) -> PgBouncerSettings:
        require_one_password(self.dsn, self.password)
        return self


class PgBouncer:
    """The collector of one PgBouncer. It keeps its connection, so that it works while `max_client_conn` is reached."""

    def __init__(self, settings: PgBouncerSettings) -> None:
        self._settings = settings
        self._clients = ClientGroups(settings.application_names)
        self._session: Session | None = None
        self._version = ""

    def collect(self) -> Samples:
        try:
            return list(self._samples())
        except (NotConnected, QueryError) as failure:
            raise Unreachable(explain(str(failure))) from None

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def connect(self) -> Session:
        """The connected session. Raises NotConnected, QueryError."""
        if self._session is None:
            parts = conninfo(self._settings)
            from psycopg.conninfo import make_conninfo

            self._session = Session(make_conninfo(**parts), self._settings.timeout, limits=False, setup=self._learn)
        self._session.connect()
        return self._session

    def _learn(self, session: Session) -> None:
        self._version = older_version(session.version)
        if not self._version:
            self._version = next((row.get("version") or "" for row in _show(session, "VERSION")), "")

    def _samples(self) -> Iterator[Sample | Malformed]:
        session = self.connect()
        yield VERSION(1, version=self._version)
        yield from lists(_show(session, "LISTS"))
        parsers = {"CONFIG": config, "DATABASES": databases, "POOLS": pools, "STATS_TOTALS": stats_totals}
        if self._settings.application_names:
            parsers["CLIENTS"] = self._clients.samples
        for what, parse in parsers.items():
            try:
                rows = _show(session, what)
            except QueryError as failure:
                yield Malformed(f"SHOW {what}", str(failure))
            else:
                yield from parse(rows)


def _show(session: Session, what: str) -> Rows:
    result = session.query(f"SHOW {what}")
    return parse_rows(result.columns, result.rows)


def conninfo(settings: PgBouncerSettings) -> dict[str, str]:
    """The connection parameters for libpq, including its default for the user.

    Raises NotConnected if the DSN is malformed or names another database. The message does not quote the DSN.
    """
    try:
        from psycopg import ProgrammingError, pq
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as missing:
        raise NotConnected(f"{missing}. Run: pip install 'deckwatch[postgres]'") from None
    try:
        given = conninfo_to_dict(settings.dsn.get_secret_value())
    except ProgrammingError:
        raise NotConnected("the dsn is malformed. Write it as postgresql://user@host:6432/pgbouncer.") from None
    defaults = {option.keyword.decode(): (option.val or b"").decode() for option in pq.Conninfo.get_defaults()}
    # PgBouncer refuses unknown startup parameters: $PGOPTIONS must not become one.
    parts = {"user": defaults["user"], "dbname": CONSOLE, "options": ""}
    parts |= {name: str(value) for name, value in given.items()}
    if parts["dbname"] != CONSOLE:
        raise NotConnected(f"the dsn names a database other than the admin console. Set its database to {CONSOLE}.")
    if settings.password is not None:
        parts["password"] = settings.password.get_secret_value()
    return parts


def explain(message: str) -> str:
    """The message, with an explanation of PgBouncer's refusals."""
    if _is_refused(message):
        return f"{message}. Add the user to stats_users in pgbouncer.ini and run RELOAD."
    return message


def _is_refused(message: str) -> bool:
    """Whether an authenticated user was refused the console (admin_pre_login() in src/admin.c)."""
    return message.endswith("not allowed")


def check(settings: PgBouncerSettings) -> Iterator[Finding]:
    """Whether the user may read the console. The collector reports all other failures."""
    console = PgBouncer(settings)
    try:
        console.connect()
    except (NotConnected, QueryError) as failure:
        if _is_refused(str(failure)):
            user = conninfo(settings)["user"]
            yield Finding(
                "missing",
                f"the user {user!r} may not read the admin console",
                f"in pgbouncer.ini, in the section [pgbouncer], set stats_users = {user}; then run RELOAD",
            )
    finally:
        console.close()


def _open(settings: PgBouncerSettings, _context: Context) -> Target:
    console = PgBouncer(settings)
    return Target({"pgbouncer": Once(console)}, console.close)


EXPORTER = Exporter(
    name="pgbouncer",
    settings=PgBouncerSettings,
    open=_open,
    named=True,
    up=UP,
    extra="postgres",
    key_figures=(
        KeyFigure("Queries", "pgbouncer_stats_totals_queries_pooled_total", per_second=True),
        KeyFigure("Active clients", "pgbouncer_pools_client_active_connections"),
        KeyFigure("Waiting clients", "pgbouncer_pools_client_waiting_connections"),
    ),
    runbook="PgbouncerDown",
    check=check,
)
