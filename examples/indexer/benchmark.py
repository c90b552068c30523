"""The benchmark suite of a build: measures, and writes its results where the agent reads them.

`benchmark.py FOLDER` writes FOLDER/benchmark.prom for the textfile collector, and fails if a suite takes longer than
BENCHMARK_LIMIT_SECONDS.
"""

import os
import resource
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import psycopg

SUITES = {
    "database": "SELECT count(*) FROM documents WHERE words @@ to_tsquery('simple', 'document')",
    "jobs": "SELECT target, count(*) FROM documents GROUP BY target",
}


def measured(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


seconds = {}
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    for name, text in SUITES.items():
        seconds[name] = measured(partial(connection.execute, text))
seconds["api"] = measured(partial(urllib.request.urlopen, os.environ["INDEXER_URL"] + "/health", timeout=10))
lines = [
    "# HELP benchmark_duration_seconds Duration of a suite, in seconds.",
    "# TYPE benchmark_duration_seconds gauge",
    *(f'benchmark_duration_seconds{{suite="{name}"}} {value:.6f}' for name, value in seconds.items()),
    "# HELP benchmark_memory_bytes Most memory that the suites used, in bytes.",
    "# TYPE benchmark_memory_bytes gauge",
    f"benchmark_memory_bytes {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}",
    "# HELP benchmark_last_run_timestamp_seconds Unix time of the last run.",
    "# TYPE benchmark_last_run_timestamp_seconds gauge",
    f"benchmark_last_run_timestamp_seconds {time.time():.0f}",
]
file = Path(sys.argv[1], "benchmark.prom")
new = file.with_suffix(".new")
new.write_text("\n".join(lines) + "\n")
new.replace(file)
limit = float(os.environ.get("BENCHMARK_LIMIT_SECONDS", "2"))
if slow := [name for name, value in seconds.items() if value > limit]:
    sys.exit(f"slower than {limit} s: {', '.join(slow)}")
