"""Checks memory and file descriptors over a million scrapes: `make soak`."""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import Scraper, open_files, resident_bytes
from deckwatch.cli.table import table
from services import agent

CLIENTS = 2
WARM_UP = 20_000


def main(scrapes: int) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder, agent(Path(folder), "interval: 1s\n") as program:
        port = int(program.url.rpartition(":")[2])

        def scrape(times: int) -> None:
            scraper = Scraper(port)
            for _ in range(times):
                scraper.scrape()

        def scrape_all(times: int) -> None:
            threads = [threading.Thread(target=scrape, args=(times // CLIENTS,)) for _ in range(CLIENTS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        scrape_all(WARM_UP)
        done = 0
        for part in range(11):
            pid = program.process.pid
            rows.append((str(done), f"{resident_bytes(pid) / 1e6:.1f} MB", str(open_files(pid))))
            if part < 10:
                scrape_all(scrapes // 10)
                done += scrapes // 10
    sys.stdout.write(table(("SCRAPES", "RESIDENT", "OPEN FILES"), rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
