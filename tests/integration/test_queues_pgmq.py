"""PGMQ, with its real SQL and client on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, postgres_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.support import figures, queues_in

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Has its own environment, see tests/install-python.sh. The package contains PGMQ's SQL, which needs no extension.
_FOLDER = Path(sys.prefix) / "pgmq"
_PYTHON = _FOLDER / "bin" / "python"

pytestmark = pytest.mark.skipif(not (_FOLDER / ".installed").exists(), reason="PGMQ is not installed: make services")

_INSTALL = """
import pgmq, psycopg
from pathlib import Path
with psycopg.connect({dsn!r}) as connection:
    connection.execute((Path(pgmq.__file__).parent / "sql" / "pgmq.sql").read_text())
"""
_CLIENT = """
from pgmq import PGMQueue
queue = PGMQueue(conn_string={dsn!r}, init_extension=False)
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def run(code: str, **values: str) -> None:
    subprocess.run([_PYTHON, "-c", code.format(**values)], check=True, timeout=120)


def test_message_values_are_correct_in_every_state(server: PostgresServer) -> None:
    dsn = server.dsn()
    with opened(EXPORTER, {"kind": "pgmq", "dsn": dsn, "queues": ["rare"]}) as target:
        assert "no tables of PGMQ in this database" in target.collect().errors["queues"]
        run(_INSTALL, dsn=dsn)
        run(_CLIENT + "queue.create_queue('mail'); queue.send_batch('mail', [{{'n': n}} for n in range(10)])", dsn=dsn)
        server.execute("UPDATE pgmq.q_mail SET enqueued_at = enqueued_at - interval '10 minutes' WHERE msg_id = 1")
        waiting = figures(target, "mail")
        assert (waiting["length"], waiting["in_flight"], waiting["enqueued_total"]) == (10, 0, 10)
        assert 600 <= waiting["oldest_message_age_seconds"] < 900
        assert queues_in(target) == {"mail", "rare"}

        run(_CLIENT + "assert len(queue.read_batch('mail', vt=3600, batch_size=3)) == 3", dsn=dsn)
        held = figures(target, "mail")
        assert (held["length"], held["in_flight"], held["enqueued_total"]) == (7, 3, 10)

        run(_CLIENT + "queue.delete_batch('mail', list(range(1, 11)))", dsn=dsn)
        drained = figures(target, "mail")
        assert (drained["length"], drained["in_flight"], drained["enqueued_total"]) == (0, 0, 10)
        assert drained["oldest_message_age_seconds"] == 0

        run(_CLIENT + "queue.drop_queue('mail')", dsn=dsn)
        assert queues_in(target) == {"rare"}
