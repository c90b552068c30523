"""`manage.py benchmark`: measures scenarios. Their results stay as metrics after this short process has ended."""

import time

from django.core.management.base import BaseCommand
from django.db import Error

import deckwatch
from records import pipeline

duration = deckwatch.gauge(
    "benchmark_duration_seconds", "Duration of a scenario's last run, in seconds.", ["scenario"], mode="last"
)
success = deckwatch.gauge("benchmark_success_ratio", "Share of runs that succeeded.", ["scenario"], mode="last")

SCENARIOS = {"export": lambda: pipeline.export(list(range(1, 501))), "write": lambda: pipeline.write([1] * 50)}


class Command(BaseCommand):
    help = "Measure scenarios, and export the results as metrics."

    def handle(self, **_):
        for name, scenario in SCENARIOS.items():
            began, ok = time.perf_counter(), 0
            for _run in range(5):
                try:
                    scenario()
                    ok += 1
                except (OSError, Error) as failure:
                    self.stderr.write(f"{name}: {failure}")
            duration.labels(name).set((time.perf_counter() - began) / 5)
            success.labels(name).set(ok / 5)
