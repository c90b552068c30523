"""A real PgBouncer in front of a real PostgreSQL for the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from databases import PostgresServer, Server
from services import free_port, installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The users in userlist.txt: `monitor` can read the console, `admin` can change settings, `app` can do neither.
PASSWORDS = {"admin": "admin-secret", "monitor": "monitor-secret", "app": "app-secret", "postgres": "postgres-secret"}


@dataclass
class PgBouncer(Server):
    """A PgBouncer that maps its database `app` to the database `postgres` of the server behind it."""

    passwords: Mapping[str, str] = field(default_factory=dict)

    def dsn(self, database: str = "pgbouncer", user: str = "monitor") -> str:
        """Return the DSN without a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "app", user: str = "app", **options: Any) -> psycopg.Connection[Any]:
        """Open a connection without prepared statements, which a pool in transaction mode may not support."""
        options.setdefault("application_name", "test")
        options.setdefault("password", self.passwords.get(user))
        return psycopg.connect(self.dsn(database, user), autocommit=True, prepare_threshold=None, **options)

    def console(self, command: str, user: str = "admin") -> list[dict[str, str | None]]:
        """Run a command on the admin console. Return the rows by column."""
        with self._console(user) as connection:
            result = connection.exec_(command.encode())
            assert result.status in (psycopg.pq.ExecStatus.TUPLES_OK, psycopg.pq.ExecStatus.COMMAND_OK), (
                result.get_error_message()
            )
            columns = [(result.fname(n) or b"").decode() for n in range(result.nfields)]
            return [
                {
                    column: None if (value := result.get_value(row, n)) is None else value.decode()
                    for n, column in enumerate(columns)
                }
                for row in range(result.ntuples)
            ]

    def version(self) -> str:
        """Return the version reported on connecting, such as `1.18.0`."""
        with self._console("monitor") as connection:
            return (connection.parameter_status(b"server_version") or b"").decode().removesuffix("/bouncer")

    @contextlib.contextmanager
    def _console(self, user: str) -> Iterator[psycopg.pq.abc.PGconn]:
        dsn = f"{self.dsn(user=user)}?password={self.passwords[user]}&application_name=test-console"
        connection = psycopg.pq.PGconn.connect(dsn.encode())
        try:
            assert connection.status == psycopg.pq.ConnStatus.OK, connection.get_error_message()
            yield connection
        finally:
            connection.finish()

    def reload(self, **settings: str) -> None:
        """Change settings in pgbouncer.ini and reload it."""
        ini = self.folder / "pgbouncer.ini"
        ini.write_text(ini.read_text() + "".join(f"{name} = {value}\n" for name, value in settings.items()))
        self.console("RELOAD")

    def answers(self) -> bool:
        try:
            self.console("SHOW VERSION")
        except AssertionError:
            assert self.process is None or self.process.poll() is None, self.log
            return False
        return True


@contextlib.contextmanager
def pgbouncer_server(
    postgres: PostgresServer | None = None,
    *,
    start: bool = True,
    program: str = "",
    **settings: str,
) -> Iterator[PgBouncer]:
    """Run a PgBouncer in front of `postgres` or an unreachable server. `settings` are those of [pgbouncer].

    Clients authenticate (PASSWORDS); servers trust it. It is located directly in /tmp, because its user cannot access
    pytest's folders. `program` selects another pgbouncer than the installed one.
    """
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="deckwatch-pgbouncer-"))
    behind = postgres.port if postgres is not None else free_port()
    chosen = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "md5",
        "auth_file": str(home / "userlist.txt"),
        "admin_users": "admin",
        "stats_users": "monitor",
        "pool_mode": "transaction",
        "default_pool_size": "2",
        **settings,
    }
    # [databases] comes first, because reload() appends to [pgbouncer].
    (home / "pgbouncer.ini").write_text(
        f"[databases]\napp = host=127.0.0.1 port={behind} dbname=postgres user=postgres\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in chosen.items())
    )
    (home / "userlist.txt").write_text("".join(f'"{user}" "{password}"\n' for user, password in PASSWORDS.items()))
    user = ""
    if os.getuid() == 0:
        user = "postgres"  # PgBouncer does not run as root
        for path in (home, *home.iterdir()):
            shutil.chown(path, user)
    command = [program or installed("pgbouncer"), str(home / "pgbouncer.ini")]
    server = PgBouncer(command, home, port, as_user=user, passwords=PASSWORDS)
    try:
        if start:
            server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
