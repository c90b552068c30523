"""The log of an application, written by `setup_logging` and shipped by a real agent."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING

from log_shipping import await_lines, config, following, new_job, shipper, total
from loki import loki_under_test

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import deckwatch, logging
deckwatch.setup_logging("shop", file="app.json", level="DEBUG")
for number in range(200):
    level = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)[number % 5]
    logging.getLogger("shop").log(level, "ü\\n%d", number, extra={"trace_id": f"{number:032x}", "password": "x"})
deckwatch.event("order_placed", category="audit", amount=float("nan"), user="ada")
"""


def test_the_agent_reads_time_level_and_metadata_of_every_line_and_ships_it_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, check=True, timeout=60)
    written = (tmp_path / "app.json").read_text().splitlines()
    assert len(written) == 201
    job = new_job()
    with (
        loki_under_test() as loki,
        shipper(tmp_path, config(loki, [following(tmp_path / "*.json", job)])) as program,
    ):
        await_lines(loki, job, written)
        entries = {entry.line: entry for entry in loki.entries(f'{{job="{job}"}}')}
        assert total(program, "deckwatch_log_lines_unparsed_total") == 0
    for line in written:
        fields, entry = json.loads(line), entries[line]
        assert dict(entry.labels)["level"] == fields["level"].lower()
        assert abs(entry.time / 1e9 - datetime.fromisoformat(fields["timestamp"]).timestamp()) < 1e-5
        assert dict(entry.metadata).get("trace_id") == fields.get("trace_id")
    assert dict(entries[written[-1]].metadata)["user"] == "ada"
