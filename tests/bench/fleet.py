"""Checks 100 000 requests and 10 000 tasks of applications with killed and recycled processes: `make soak`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from deckwatch.cli.table import table
from sdk.fleet import run_fleet


def main(requests: int) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = run_fleet(Path(folder), requests, tasks=requests // 10, batch=300)
    rows.append(("minutes", f"{(time.monotonic() - began) / 60:.1f}", ""))
    sys.stdout.write(table(("SERVICE", "SENT", "COUNTED"), rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
