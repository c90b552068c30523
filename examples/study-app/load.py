"""Sends requests. Lines on standard input change it: `errors 0.2`, `slow 0.2` (shares), `rate 50` (per second)."""

import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request

URL = os.environ["API_URL"]
settings = {"rate": float(os.environ.get("RATE", "10")), "errors": 0.0, "slow": 0.0}


def listen():
    for line in sys.stdin:
        name, _, value = line.strip().partition(" ")
        if name in settings:
            settings[name] = float(value)


def send(path, method="GET"):
    try:
        urllib.request.urlopen(urllib.request.Request(URL + path, method=method), timeout=30).close()
    except urllib.error.HTTPError:
        pass
    except OSError as failure:
        sys.stderr.write(f"{path}: {failure}\n")


def some_path():
    dice = random.random()
    if dice < settings["errors"]:
        return "/fail", "GET"
    if dice < settings["errors"] + settings["slow"]:
        return "/report?seconds=2", "GET"
    n = random.randrange(10)
    return random.choice(
        [
            (f"/topics/topic{n}", "GET"),
            (f"/search/topic{n}", "GET"),
            (f"/studies/{n + 1}?title=t&user=u{n}", "PUT"),
            (f"/login?user=u{n}&password=correct", "POST"),
        ]
    )


threading.Thread(target=listen, daemon=True).start()
while True:
    threading.Thread(target=send, args=some_path()).start()
    time.sleep(1 / settings["rate"])
