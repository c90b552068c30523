"""An outage of ten minutes, with a killed and a reloaded agent, loses no sample: `make soak`.

`remote_write_outage.py [SECONDS]`; exits 1 if a sample is missing, or is there twice.
"""

from __future__ import annotations

import itertools
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from deckwatch.cli.table import table
from receivers import RECEIVERS, config, own, receiver, times, writing
from services import free_port, until

INTERVAL = 15.0


def outage(kind: str, folder: Path, seconds: float) -> tuple[str, ...]:
    """The receiver, the samples that it has, the longest gap between two, and what was dropped."""
    port = free_port()
    folder.mkdir()
    text = config(f"http://127.0.0.1:{port}", interval=f"{INTERVAL:g}s")
    with receiver(kind, folder / "receiver", port) as store, writing(folder, text) as program:
        until(lambda: times(store), what="the first sample")
        store.process.terminate()
        store.process.wait()
        time.sleep(seconds / 2)
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
    with writing(folder, text) as program:
        time.sleep(seconds / 4)
        (folder / "deckwatch.yml").write_text(text.replace("{system: {}}", "{system: {disable: [arp]}}"))
        program.process.send_signal(signal.SIGHUP)
        time.sleep(seconds / 4)
        with receiver(kind, folder / "receiver", port) as store:
            until(lambda: own(program, "pending_bytes") == 0, what="the queue")
            time.sleep(2 * INTERVAL)
            found = times(store)
            dropped = own(program, "samples_dropped_total")
    gaps = [after - at for at, after in itertools.pairwise(found)]
    is_right = found == sorted(set(found)) and max(gaps) < 2 * INTERVAL and not dropped
    expected = f"about {seconds / INTERVAL:.0f}"
    return kind, str(len(found)), expected, f"{max(gaps):.1f} s", f"{dropped:.0f}", "ok" if is_right else "WRONG"


def main(seconds: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = [outage(kind, Path(folder) / kind, seconds) for kind in RECEIVERS]
    sys.stdout.write(table(("RECEIVER", "SAMPLES", "EXPECTED", "LONGEST GAP", "DROPPED", "RESULT"), rows))
    return 0 if all(row[-1] == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0))
