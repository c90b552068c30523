"""A real MariaDB server for the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from databases import Server
from services import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where Debian has the server, and the tables of the schema mysql, without which there are no users.
_PROGRAM = Path("/usr/sbin/mariadbd")
_SCHEMA = Path("/usr/share/mysql")
_FILES = ("mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql")
_READY = "ready for connections"
_ACCOUNT = "nobody"  # the server refuses to run as root


@dataclass
class MariadbServer(Server):
    """A separate MariaDB with the users of its first statements."""

    stop_signal = signal.SIGTERM

    def url(self, user: str, database: str) -> str:
        """For SQLAlchemy with PyMySQL."""
        return f"mysql+pymysql://{user}@127.0.0.1:{self.port}/{database}"

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log
        return _READY in self.log


@contextlib.contextmanager
def mariadb_server(*statements: str) -> Iterator[MariadbServer]:
    """Run a MariaDB that begins with these statements, each on one line."""
    assert _PROGRAM.exists(), f"{_PROGRAM} is not installed; tests/install-services.sh installs it"
    folder = Path(tempfile.mkdtemp(prefix="deckwatch-mariadb-"))
    data, first = folder / "data", folder / "first.sql"
    data.mkdir()
    first.write_text("".join(f"{it};\n" for it in statements))
    account = _ACCOUNT if os.geteuid() == 0 else ""
    if account:
        for path in (folder, data, first):
            shutil.chown(path, account)
    common = ["--no-defaults", f"--datadir={data}", "--skip-log-bin", "--innodb-buffer-pool-size=8M"]
    schema = "CREATE DATABASE mysql;\nUSE mysql;\n" + "".join((_SCHEMA / it).read_text() for it in _FILES)
    made = subprocess.run(
        [_PROGRAM, *common, "--bootstrap"], input=schema, capture_output=True, text=True, user=account or None,
        timeout=300, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    port = free_port()
    command = [
        str(_PROGRAM), *common, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}",
        f"--init-file={first}", "--skip-name-resolve", f"--pid-file={folder / 'pid'}",
    ]  # fmt: skip
    server = MariadbServer(command, folder, port, as_user=account)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
