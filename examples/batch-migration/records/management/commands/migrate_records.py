"""`manage.py migrate_records`: runs the pipeline once, or again and again."""

import os
import sys
import threading
import time

from django.core.management.base import BaseCommand

from records import pipeline


class Command(BaseCommand):
    help = "Move the records to the target system."

    def add_arguments(self, parser):
        parser.add_argument("--total", type=int, default=int(os.environ.get("RECORDS", "1000")))
        parser.add_argument("--repeat", action="store_true", help="run again and again")

    def handle(self, *, total, repeat, **_):
        if repeat:
            threading.Thread(target=self._listen, daemon=True).start()
        while True:
            pipeline.run(total)
            if not repeat:
                return
            time.sleep(float(os.environ.get("PAUSE_SECONDS", "5")))

    def _listen(self):
        for line in sys.stdin:
            name, _, value = line.strip().partition(" ")
            if name == "slow":
                pipeline.slow["seconds"] = float(value)
