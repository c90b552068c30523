"""The demo's application: a small shop with sessions in Redis, orders in PostgreSQL, and mails that a worker sends.

It runs as a separate program.

It reads DEMO_REDIS_URL, DEMO_POSTGRES_DSN and optionally DEMO_LOG (a log file) from the environment, and exits when its
standard input closes. Lines on standard input cause faults: `leak BYTES_PER_SECOND` and `errors PER_SECOND`; 0 stops
them. `mails PER_SECOND` and `bounces SHARE` change the mails.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import threading
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from kombu.exceptions import OperationalError

from .mails import send_mail

if TYPE_CHECKING:
    from collections.abc import Callable

_CUSTOMERS = 2000
_KEPT = 20_000  # orders
_LEAK_LIMIT = 450_000_000  # bytes, so that the host does not run out of memory

STOP = threading.Event()
LOG = logging.getLogger("shop")

Shop = tuple["redis.Redis", "psycopg.Connection[Any]"]


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {"time": record.created, "level": record.levelname.lower(), "message": record.getMessage()},
        )


def visitors(shop: Shop) -> None:
    """Simulate eight visitors per second and thread. Most have a session, and half of them buy."""
    cache, database = shop
    while not STOP.wait(random.expovariate(8)):
        customer = random.randrange(_CUSTOMERS)
        if cache.get(f"session:{customer}") is None:
            cache.set(f"session:{customer}", "x" * random.randint(50, 500))
        if random.random() < 0.5:
            cents = random.randint(100, 20_000)
            database.execute("INSERT INTO orders (customer, cents) VALUES (%s, %s)", (customer, cents))
            cache.incr("orders:today")
            LOG.info("customer %d ordered for %.2f", customer, cents / 100)
        else:
            database.execute("SELECT * FROM orders WHERE customer = %s ORDER BY id DESC LIMIT 10", (customer,))


def reports(shop: Shop) -> None:
    """Find the best customers every two seconds, and delete the oldest orders every minute."""
    cache, database = shop
    turn = 0
    while not STOP.wait(2):
        turn += 1
        best = database.execute("SELECT customer, sum(cents) FROM orders GROUP BY customer ORDER BY 2 DESC LIMIT 10")
        cache.set("report:best", str(best.fetchall()))
        if turn % 30 == 0:
            database.execute("DELETE FROM orders WHERE id < (SELECT max(id) FROM orders) - %s", (_KEPT,))


def keep_open(work: Callable[[Shop], None]) -> None:
    """Run `work` until the end, reconnecting whenever a connection is lost."""
    reported = False
    while not STOP.is_set():
        try:
            with (
                redis.Redis.from_url(os.environ["DEMO_REDIS_URL"], socket_timeout=5) as cache,
                psycopg.connect(os.environ["DEMO_POSTGRES_DSN"], autocommit=True, connect_timeout=5) as database,
            ):
                cache.ping()
                reported = False
                work((cache, database))
        except (redis.RedisError, psycopg.Error) as failure:
            if not reported:
                LOG.error("the shop is closed: %s", failure)
            reported = True
            STOP.wait(1)


class Faults:
    """The faults requested on standard input."""

    def __init__(self) -> None:
        self.leak = 0.0  # bytes per second
        self.errors = 0.0  # per second
        self.mails = 5.0  # per second
        self.bounces = 0.0  # share of the mails
        self._kept: list[bytes] = []

    def apply(self, line: str) -> None:
        name, _, number = line.partition(" ")
        if name == "leak":
            self.leak = float(number)
            if not self.leak:
                self._kept.clear()
        elif name == "errors":
            self.errors = float(number)
        elif name == "mails":
            self.mails = float(number)
        elif name == "bounces":
            self.bounces = float(number)

    def run(self) -> None:
        while not STOP.wait(1 / (self.errors or 1)):
            if self.errors:
                LOG.error("payment failed: the bank's server timed out")
            if self.leak and sum(map(len, self._kept)) < _LEAK_LIMIT:
                self._kept.append(b"x" * int(self.leak / (self.errors or 1)))


def mails(faults: Faults) -> None:
    """Publish a task for each mail."""
    while not STOP.wait(1 / faults.mails):
        try:
            send_mail.apply_async((random.random() < faults.bounces,), retry=False)
        except (OperationalError, redis.RedisError):
            STOP.wait(1)  # the broker is down: the mail is lost


def main() -> None:
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    if file := os.environ.get("DEMO_LOG"):
        handler = RotatingFileHandler(file, maxBytes=10_000_000, backupCount=1)
        handler.setFormatter(_Json())
        LOG.addHandler(handler)
    else:
        LOG.addHandler(logging.NullHandler())
    faults = Faults()
    threads = [threading.Thread(target=keep_open, args=(work,)) for work in (visitors, visitors, reports)]
    threads += [threading.Thread(target=faults.run), threading.Thread(target=mails, args=(faults,))]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for line in sys.stdin:
        faults.apply(line.strip())
    STOP.set()
    for thread in threads:
        thread.join(1)


if __name__ == "__main__":
    main()
