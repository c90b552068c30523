"""Log lines per CPU-second and memory, compared with recorded figures of Promtail, which is no longer packaged."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import cpu_seconds, resident_bytes
from services import Program, agent, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = 1_000_000
#: Promtail 3.4.6 on a similar host: JSON parsed, level as label, timestamp parsed.
PROMTAIL_LINES, PROMTAIL_MEGABYTES = 46_000.0, 99.0
_BEGAN = int(time.time()) - 3600


def line(number: int, random: random.Random) -> str:
    """Return a line in the format of python-json-logger, 217 bytes on average."""
    second, microsecond = divmod(number * 50, 1_000_000)
    fields = {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(_BEGAN + second)) + f".{microsecond:06d}+00:00",
        "level": random.choices(("INFO", "DEBUG", "WARNING", "ERROR"), (80, 12, 6, 2))[0],
        "logger": random.choice(("app.orders", "app.billing", "app.http")),
        "message": f"order {random.randrange(10**8)} of customer {random.randrange(10**6)} was processed in time",
        "duration_ms": round(random.expovariate(0.05), 3),
        "order_id": random.getrandbits(56),
    }
    return json.dumps(fields)


@contextlib.contextmanager
def sink() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("loki_sink.py")), str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def config(url: str, pattern: str, **loki: object) -> str:
    rule = {"path": pattern, "labels": {"job": "bench"}, "metadata_fields": []}
    return json.dumps(
        {"interval": "15s", "exporters": {}, "logs": {"loki": {"url": url, **loki}, "own": False, "files": [rule]}}
    )


def sent(program: Program) -> float:
    found = [text for text in program.metrics().splitlines() if text.startswith("deckwatch_log_lines_sent_total{")]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def measured(folder: Path, pattern: Path, lines: int, **loki: object) -> tuple[float, float, float]:
    """Return lines and megabytes per CPU-second, and resident megabytes. All lines exist before the start."""
    size = sum(path.stat().st_size for path in pattern.parent.glob(pattern.name))
    (folder / "state").mkdir(parents=True)
    with sink() as url, agent(folder, config(url, str(pattern), **loki), STATE_DIRECTORY=str(folder / "state")) as ours:
        peak = 0

        def done() -> bool:
            nonlocal peak
            peak = max(peak, resident_bytes(ours.process.pid))
            return sent(ours) >= lines

        until(done, 300, "all lines being sent")
        used = cpu_seconds(ours.process.pid)
    return lines / used, size / used / 1e6, peak / 1e6


def logs(folder: Path) -> list[tuple[str, ...]]:
    chance = random.Random(1)
    (folder / "one").mkdir()
    with open(folder / "one" / "app.json", "w") as file:
        file.writelines(line(number, chance) + "\n" for number in range(LINES))
    rows: list[tuple[str, ...]] = []
    for encoding in ("json", "protobuf"):
        lines, megabytes, resident = measured(folder / encoding, folder / "one" / "*.json", LINES, encoding=encoding)
        rows.append((f"lines for each CPU-second, {encoding}", f"{lines:.0f}", f"{PROMTAIL_LINES:.0f}",
                     f"{lines / PROMTAIL_LINES:.1f}"))  # fmt: skip
        rows.append((f"megabytes for each CPU-second, {encoding}", f"{megabytes:.0f}", "-", "-"))
        rows.append((f"resident memory at most, {encoding}", f"{resident:.0f} MB", f"{PROMTAIL_MEGABYTES:.0f} MB",
                     f"{resident / PROMTAIL_MEGABYTES:.2f}"))  # fmt: skip
    (folder / "many").mkdir()
    for number in range(10_000):
        with open(folder / "many" / f"{number}.json", "w") as file:
            file.writelines(line(number * 20 + at, chance) + "\n" for at in range(20))
    lines, _, resident = measured(folder / "small", folder / "many" / "*.json", 200_000)
    rows.append(("lines for each CPU-second, 10 000 files of 20", f"{lines:.0f}", "-", "-"))
    rows.append(("resident memory at most, 10 000 files", f"{resident:.0f} MB", "-", "-"))
    rows.append(("CPU at 1000 quiet files", f"{_quiet(folder) * 100:.2f} %", "-", "-"))
    return rows


def _quiet(folder: Path) -> float:
    """Return the CPU share used for 1000 idle files."""
    (folder / "quiet").mkdir()
    for number in range(1000):
        (folder / "quiet" / f"{number}.json").write_text(line(number, random.Random(number)) + "\n")
    (folder / "idle" / "state").mkdir(parents=True)
    with (
        sink() as url,
        agent(folder / "idle", config(url, f"{folder}/quiet/*.json"), STATE_DIRECTORY=f"{folder}/idle/state") as ours,
    ):
        until(lambda: sent(ours) >= 1000, 60)
        time.sleep(70)  # until files count as idle
        before = cpu_seconds(ours.process.pid)
        time.sleep(20)
        return (cpu_seconds(ours.process.pid) - before) / 20
