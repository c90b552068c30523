"""Log lines per CPU-second and memory, beside a loop that does only what cannot be left out, and beside Promtail.

Promtail is no longer packaged: it is measured if the environment variable PROMTAIL names its binary.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from isal import isal_zlib

from bench.measure import cpu_seconds, resident_bytes
from services import Program, agent, free_port, running, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LINES = 600_000
METRICS = [
    {"name": "bench_messages_total", "labels": {"logger": "logger"}},
    {"name": "bench_duration_seconds", "type": "histogram", "field": "duration_ms", "scale": 0.001},
]
_CHUNK = 256 * 1024  # bytes that the loop reads at once
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


def reference_loop(path: Path) -> float:
    """Return the CPU seconds of splitting, decoding, encoding in batches and compressing, and nothing else."""
    began = time.process_time()
    rest = b""
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            values = [[str(index), line.decode(), orjson.loads(line)["level"]] for index, line in enumerate(lines)]
            isal_zlib.compress(orjson.dumps(values), 1, 31)
    return time.process_time() - began


@contextlib.contextmanager
def promtail(binary: str, folder: Path, url: str, pattern: str) -> Iterator[Program]:
    """Promtail with what Deckwatch does by default: JSON, level as label, time from the line."""
    port = free_port()
    stages = [
        {"json": {"expressions": {"level": "level", "timestamp": "timestamp"}}},
        {"labels": {"level": None}},
        {"timestamp": {"source": "timestamp", "format": "RFC3339Nano"}},
    ]
    target = {"targets": ["localhost"], "labels": {"job": "bench", "__path__": pattern}}
    settings = {
        "server": {"http_listen_port": port, "grpc_listen_port": 0},
        "positions": {"filename": str(folder / "positions.yml")},
        "clients": [{"url": f"{url}/loki/api/v1/push"}],
        "scrape_configs": [{"job_name": "bench", "static_configs": [target], "pipeline_stages": stages}],
    }
    (folder / "promtail.yml").write_text(json.dumps(settings))
    command = [binary, f"-config.file={folder / 'promtail.yml'}"]
    with running(command, f"http://127.0.0.1:{port}", "/ready", folder / "promtail.log") as program:
        yield program


def promtail_measured(binary: str, folder: Path, source: Path, lines: int) -> tuple[float, float]:
    """As `measured`, for Promtail: lines per CPU-second and resident megabytes."""
    folder.mkdir()
    with sink() as url, promtail(binary, folder, url, f"{folder}/in/*.json") as program:

        def sent() -> float:
            found = [it for it in program.metrics().splitlines() if it.startswith("promtail_sent_entries_total{")]
            return sum(float(it.rsplit(" ", 1)[1]) for it in found)

        used, peak = at_work(program, sent, source, folder / "in", lines)
    return lines / used, peak / 1e6


def at_work(program: Program, sent: Callable[[], float], source: Path, followed: Path, lines: int) -> tuple[float, int]:
    """Return the CPU seconds and the most resident bytes of shipping a folder, which appears after the start."""
    began, peak = cpu_seconds(program.process.pid), 0
    source.rename(followed)
    try:
        while sent() < lines:  # a scrape a second, because scrapes cost CPU too
            for _ in range(4):
                time.sleep(0.25)
                peak = max(peak, resident_bytes(program.process.pid))
        return cpu_seconds(program.process.pid) - began, peak
    finally:
        followed.rename(source)


def config(url: str, pattern: str, metrics: Sequence[object] = (), **loki: object) -> str:
    rule = {"path": pattern, "labels": {"job": "bench"}, "metrics": list(metrics)}
    return json.dumps(
        {"interval": "15s", "exporters": {}, "logs": {"loki": {"url": url, **loki}, "own": False, "files": [rule]}}
    )


def sent(program: Program) -> float:
    found = [text for text in program.metrics().splitlines() if text.startswith("deckwatch_log_lines_sent_total{")]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def measured(
    folder: Path, source: Path, lines: int, metrics: Sequence[object] = (), **loki: object
) -> tuple[float, float, float]:
    """Return lines and megabytes per CPU-second, and resident megabytes, of shipping the files of a folder."""
    size = sum(path.stat().st_size for path in source.iterdir())
    (folder / "state").mkdir(parents=True)
    pattern, state = f"{folder}/in/*.json", str(folder / "state")
    with sink() as url, agent(folder, config(url, pattern, metrics, **loki), STATE_DIRECTORY=state) as ours:
        used, peak = at_work(ours, lambda: sent(ours), source, folder / "in", lines)
    return lines / used, size / used / 1e6, peak / 1e6


def logs(folder: Path) -> list[tuple[str, ...]]:
    chance = random.Random(1)
    (folder / "one").mkdir()
    with open(folder / "one" / "app.json", "w") as file:
        file.writelines(line(number, chance) + "\n" for number in range(LINES))
    rows: list[tuple[str, ...]] = []
    source = folder / "one"
    binary = os.environ.get("PROMTAIL")
    theirs = promtail_measured(binary, folder / "promtail", source, LINES) if binary else None
    floor = LINES / reference_loop(source / "app.json")
    rows.append(("lines for each CPU-second, a loop that only decodes and encodes", f"{floor:.0f}", "-", "-"))
    for what, more in (
        ("json", {"encoding": "json"}),
        ("protobuf", {"encoding": "protobuf"}),
        ("json, a counter and a histogram", {"metrics": METRICS}),
    ):
        lines, megabytes, resident = measured(folder / what.replace(" ", "-"), source, LINES, **more)
        rows.append((f"lines for each CPU-second, {what}", f"{lines:.0f}", f"{theirs[0]:.0f}" if theirs else "-",
                     f"{lines / theirs[0]:.1f}" if theirs else "-"))  # fmt: skip
        rows.append((f"CPU compared with that loop, {what}", f"{floor / lines:.2f}", "-", "-"))
        rows.append((f"megabytes for each CPU-second, {what}", f"{megabytes:.0f}", "-", "-"))
        beside = (f"{theirs[1]:.0f} MB", f"{resident / theirs[1]:.2f}") if theirs else ("-", "-")
        rows.append((f"resident memory at most, {what}", f"{resident:.0f} MB", *beside))
    (folder / "many").mkdir()
    for number in range(10_000):
        with open(folder / "many" / f"{number}.json", "w") as file:
            file.writelines(line(number * 20 + at, chance) + "\n" for at in range(20))
    lines, _, resident = measured(folder / "small", folder / "many", 200_000)
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
        until(lambda: sent(ours) >= 1000)
        time.sleep(70)  # until files count as idle
        before = cpu_seconds(ours.process.pid)
        time.sleep(20)
        return (cpu_seconds(ours.process.pid) - before) / 20
