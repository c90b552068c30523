"""Sends events. Lines on standard input change it: `rate 200` (events per second), `poison 0.5` (share of bad ones)."""

import json
import os
import random
import select
import sys
import time
import urllib.error
import urllib.request

URL = os.environ["API_URL"]
settings = {"rate": float(os.environ.get("RATE", "5")), "poison": 0.0}


def post(path, body):
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except OSError as failure:
        sys.stderr.write(f"{path}: {failure}\n")


def event():
    bad = random.random() < settings["poison"]
    return {"type": "poison" if bad else random.choice(["order", "refund", "visit"]), "payload": {"n": 1}}


next_at = time.monotonic()
reads = True
while True:
    wait = max(0.0, next_at - time.monotonic())
    if reads and select.select([sys.stdin], [], [], wait)[0]:
        words = sys.stdin.readline().split()
        reads = bool(words)
        if len(words) == 2 and words[0] in settings:
            settings[words[0]] = float(words[1])
        continue
    if not reads:
        time.sleep(wait)
    next_at = max(next_at + 1 / settings["rate"], time.monotonic() - 1)
    if random.random() < 0.05:
        post("/events/batch", [event() for _ in range(10)])
    else:
        post("/events", event())
