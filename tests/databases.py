"""Real Redis and PostgreSQL servers and the peers' exporters for the tests."""

from __future__ import annotations

import atexit
import contextlib
import functools
import getpass
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import redis

from services import Program, free_port, installed, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass
class Server:
    """A server that a test can stop, start, freeze and kill."""

    #: What asks it for an orderly shutdown that does not wait for its clients.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    command: Sequence[str]
    folder: Path
    port: int
    as_user: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        assert self.process is None
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command), stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, user=self.as_user or None
            )
        until(self.answers, what=f"{self.command[0]} answering")

    def answers(self) -> bool:
        raise NotImplementedError

    def stop(self) -> None:
        """Stop it with a fast, orderly shutdown that closes client connections."""
        if self.process is None:
            return
        process, self.process = self.process, None
        self._signal_all(process, signal.SIGCONT)
        process.send_signal(self.stop_signal)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Kill it with SIGKILL, without closing connections properly."""
        assert self.process is not None
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def freeze(self) -> None:
        """Freeze it with SIGSTOP: connections stay open, but it does not respond."""
        assert self.process is not None
        self._signal_all(self.process, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self._signal_all(self.process, signal.SIGCONT)

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    @staticmethod
    def _signal_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Return the processes of the server and its children: PostgreSQL has one process per session."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in (process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass
class RedisServer(Server):
    """A redis-server without persistence, unless the flags enable it."""

    password: str = ""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        options.setdefault("password", self.password or None)
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            assert self.process is None or self.process.poll() is None, self.log
            return False


@contextlib.contextmanager
def redis_server(
    folder: Path, *flags: str, password: str = "", start: bool = True, program: Path | None = None
) -> Iterator[RedisServer]:
    """Run a separate Redis. `program` selects another version.

    `flags` are command line arguments (`"--maxmemory", "10mb"`).
    """
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="redis-", dir=folder))
    command = [str(program) if program else installed("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", str(home), "--save", ""]
    command += ["--requirepass", password] if password else []
    server = RedisServer([*command, *flags], home, port, password=password)
    if start:
        server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def redis_sentinel(
    folder: Path, master: RedisServer, *lines: str, quorum: int = 1, password: str = "", program: Path | None = None
) -> Iterator[RedisServer]:
    """Run a Sentinel of a master, which it calls `mymaster`, with further lines of its config."""
    port = free_port()
    home = folder / f"sentinel-{port}"
    home.mkdir()
    config = home / "sentinel.conf"
    monitored = f"sentinel monitor mymaster 127.0.0.1 {master.port} {quorum}"
    times = "sentinel down-after-milliseconds mymaster 500", "sentinel failover-timeout mymaster 3000"
    config.write_text("".join(f"{line}\n" for line in (f"port {port}", monitored, *times, *lines)))
    command = [str(program or installed("redis-server")), str(config), "--sentinel"]
    server = RedisServer(command, home, port, password=password)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class LoggedRedisServer(RedisServer):
    """A server that a plain client cannot connect to. Its log shows when it is ready."""

    ready: str = "Ready to accept"

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log
        return self.ready in self.log


@contextlib.contextmanager
def tls_redis_server(folder: Path, certificate: Path, key: Path, *flags: str) -> Iterator[RedisServer]:
    """Run a Redis that accepts only TLS. Add `--tls-ca-cert-file` to `flags` for client certificates."""
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="redis-", dir=folder))
    command = [
        installed("redis-server"), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "",
        "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
    ]  # fmt: skip
    server = LoggedRedisServer([*command, *flags], home, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class PostgresServer(Server):
    """A separate PostgreSQL cluster with superuser `postgres`. Trusts all users on 127.0.0.1 by default."""

    programs: Path | None = None

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", user: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """Open an autocommit connection for the test, identified by its application_name."""
        options.setdefault("application_name", "test")
        return psycopg.connect(self.dsn(database, user), autocommit=True, **options)

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with self.connect(database) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def value(self, query: str, database: str = "postgres") -> Any:
        with self.connect(database) as connection:
            row = connection.execute(query.encode()).fetchone()
            assert row is not None
            return row[0]

    def answers(self) -> bool:
        try:
            with self.connect(connect_timeout=2):
                return True
        except psycopg.OperationalError:
            assert self.process is None or self.process.poll() is None, self.log
            return False


def postgres_program(name: str) -> str:
    """Return the path of `initdb`, `postgres`, `pgbench` ... Debian installs them by version outside PATH."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: float(path.split("/")[4]))
    return found[-1] if found else installed(name)


def _postgres_user() -> str:
    """Return the user for PostgreSQL, which does not run as root."""
    return "postgres" if os.getuid() == 0 else getpass.getuser()


@functools.cache
def _made_once() -> list[Path]:
    """Folders that all tests of a run share."""
    made: list[Path] = []
    atexit.register(remove_what_was_made_once)
    return made


def remove_what_was_made_once() -> None:
    """Remove the folders. Also called at the end of a test run, because pytest-xdist workers skip exit handlers."""
    made = _made_once()
    while made:
        shutil.rmtree(made.pop(), ignore_errors=True)


@functools.cache
def _fresh_cluster(programs: Path) -> Path:
    """Return a cluster that initdb created once, for tests to copy."""
    home = Path(tempfile.mkdtemp(prefix="deckwatch-initdb-"))
    _made_once().append(home)
    user = _postgres_user()
    if os.getuid() == 0:
        shutil.chown(home, user)
    flags = ["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(
        [programs / "initdb", "-D", home / "data", *flags], check=True, stdout=subprocess.DEVNULL, user=user, cwd="/"
    )
    return home / "data"


@functools.cache
def _executable(programs: Path) -> Path:
    """Return the folder, or a copy if the servers' user cannot access it (for example, below /root)."""
    test = subprocess.run(["test", "-x", programs / "postgres"], user=_postgres_user(), cwd="/", check=False)
    if test.returncode == 0:
        return programs
    home = Path(tempfile.mkdtemp(prefix="deckwatch-programs-"))
    _made_once().append(home)
    home.chmod(0o755)
    return shutil.copytree(programs.parent, home / "installed", symlinks=True) / programs.name


@contextlib.contextmanager
def _cluster(programs: Path, settings: Mapping[str, str]) -> Iterator[PostgresServer]:
    """Copy the new cluster. Its server is not started yet.

    It is located directly in /tmp, because its user cannot access pytest's folders.
    """
    programs = _executable(programs)
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="deckwatch-postgres-"))
    data = home / "data"
    shutil.copytree(_fresh_cluster(programs), data, symlinks=True)
    user = _postgres_user()
    if os.getuid() == 0:
        account = pwd.getpwnam(user)
        for path in (home, *home.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    data.chmod(0o700)
    chosen = {
        "shared_preload_libraries": "pg_stat_statements",
        "fsync": "off",
        "unix_socket_directories": str(home),
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        **settings,
    }
    command = [str(programs / "postgres"), "-D", str(data)]
    command += [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    server = PostgresServer(command, home, port, as_user=user if os.getuid() == 0 else "", programs=programs)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def postgres_server(programs: Path | None = None, /, **settings: str) -> Iterator[PostgresServer]:
    """Run a PostgreSQL server with pg_stat_statements. `settings` are those of postgresql.conf.

    `programs` is the folder with the programs of another version.
    """
    with _cluster(programs or Path(postgres_program("postgres")).parent, settings) as server:
        server.start()
        yield server


@contextlib.contextmanager
def postgres_standby(primary: PostgresServer, slot: str, **settings: str) -> Iterator[PostgresServer]:
    """Run a standby that streams through a new slot with this name.

    It starts from the same cluster as the primary and replays all of its WAL, so the primary must still have all of it.
    """
    assert primary.programs is not None
    primary.execute(f"SELECT pg_create_physical_replication_slot('{slot}', true)")
    source = {"primary_conninfo": f"{primary.dsn()}?application_name=second", "primary_slot_name": slot}
    with _cluster(primary.programs, {**source, **settings}) as server:
        (server.folder / "data" / "standby.signal").touch()
        server.start()
        yield server


def redis_exporter(folder: Path, url: str, *flags: str) -> contextlib.AbstractContextManager[Program]:
    port = free_port()
    command = [installed("prometheus-redis-exporter"), "-redis.addr", url]
    command += ["-web.listen-address", f"127.0.0.1:{port}", *flags]
    return running(command, f"http://127.0.0.1:{port}", "/metrics", folder / "redis_exporter.log")


def postgres_exporter(folder: Path, dsn: str, *flags: str) -> contextlib.AbstractContextManager[Program]:
    port = free_port()
    command = [installed("prometheus-postgres-exporter"), f"--web.listen-address=127.0.0.1:{port}", *flags]
    environ = {"DATA_SOURCE_NAME": f"{dsn}?sslmode=disable"}
    return running(command, f"http://127.0.0.1:{port}", "/metrics", folder / "postgres_exporter.log", environ)
