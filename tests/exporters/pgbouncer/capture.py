"""Capture the replies of a PgBouncer's admin console for the parser tests.

    PYTHONPATH=tests .venv/bin/python tests/exporters/pgbouncer/capture.py /path/to/pgbouncer

writes `fixtures/<its version>.json`: the result set of each SHOW, taken while one client waits, one is in a
transaction, and some queries have run.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from databases import postgres_server
from pgbouncer_server import PgBouncer, pgbouncer_server
from services import until

FOLDER = Path(__file__).parent / "fixtures"
COMMANDS = ("VERSION", "LISTS", "CONFIG", "DATABASES", "POOLS", "STATS_TOTALS", "CLIENTS")


def capture(program: str) -> Path:
    with (
        postgres_server() as postgres,
        pgbouncer_server(postgres, program=program, default_pool_size="1") as pgbouncer,
        pgbouncer.connect(application_name="shop") as busy,
    ):
        for _ in range(3):
            busy.execute("SELECT pg_sleep(0.05)")
        busy.execute("BEGIN")
        busy.execute("SELECT 1")
        waiting = threading.Thread(target=_query, args=(pgbouncer,))
        waiting.start()
        until(lambda: any(row["cl_waiting"] == "1" for row in pgbouncer.console("SHOW POOLS", "monitor")))
        answers = {command: pgbouncer.console(f"SHOW {command}", "monitor") for command in COMMANDS}
        version = pgbouncer.version()
        busy.execute("COMMIT")
        waiting.join()
    file = FOLDER / f"{version}.json"
    lines = (
        f' "{command}": [' + ",".join(f"\n  {json.dumps(row)}" for row in rows) + "]"
        for command, rows in answers.items()
    )
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return file


def _query(pgbouncer: PgBouncer) -> None:
    with pgbouncer.connect(application_name="reports") as connection:
        connection.execute("SELECT 2")


if __name__ == "__main__":
    print(capture(sys.argv[1]))
