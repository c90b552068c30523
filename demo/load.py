"""The demo's application: a small shop with sessions in Redis and orders in PostgreSQL. Run as a program of its own.

It takes DEMO_REDIS_URL, DEMO_POSTGRES_DSN and, where it is to log, DEMO_LOG from the environment, and ends with its
standard input. Lines there make trouble: `leak BYTES_PER_SECOND`, `errors PER_SECOND`; 0 ends it.
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

if TYPE_CHECKING:
    from collections.abc import Callable

_CUSTOMERS = 2000
_KEPT = 20_000  # orders
_LEAK_LIMIT = 450_000_000  # bytes; the machine is not to suffer

STOP = threading.Event()
LOG = logging.getLogger("shop")

Shop = tuple["redis.Redis", "psycopg.Connection[Any]"]


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {"time": record.created, "level": record.levelname.lower(), "message": record.getMessage()},
        )


def visitors(shop: Shop) -> None:
    """Eight a second, for each thread: most are known, one in two buys."""
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
    """Each two seconds who buys most; each minute the oldest orders go."""
    cache, database = shop
    turn = 0
    while not STOP.wait(2):
        turn += 1
        best = database.execute("SELECT customer, sum(cents) FROM orders GROUP BY customer ORDER BY 2 DESC LIMIT 10")
        cache.set("report:best", str(best.fetchall()))
        if turn % 30 == 0:
            database.execute("DELETE FROM orders WHERE id < (SELECT max(id) FROM orders) - %s", (_KEPT,))


def keep_open(work: Callable[[Shop], None]) -> None:
    """`work` until the end, with new connections when the old ones are lost."""
    complained = False
    while not STOP.is_set():
        try:
            with (
                redis.Redis.from_url(os.environ["DEMO_REDIS_URL"], socket_timeout=5) as cache,
                psycopg.connect(os.environ["DEMO_POSTGRES_DSN"], autocommit=True, connect_timeout=5) as database,
            ):
                cache.ping()
                complained = False
                work((cache, database))
        except (redis.RedisError, psycopg.Error) as failure:
            if not complained:
                LOG.error("the shop is closed: %s", failure)
            complained = True
            STOP.wait(1)


class Trouble:
    """What the demo asks for on standard input."""

    def __init__(self) -> None:
        self.leak = 0.0  # bytes a second
        self.errors = 0.0  # a second
        self._kept: list[bytes] = []

    def obey(self, line: str) -> None:
        name, _, number = line.partition(" ")
        if name == "leak":
            self.leak = float(number)
            if not self.leak:
                self._kept.clear()
        elif name == "errors":
            self.errors = float(number)

    def run(self) -> None:
        while not STOP.wait(1 / (self.errors or 1)):
            if self.errors:
                LOG.error("payment refused: the bank does not answer")
            if self.leak and sum(map(len, self._kept)) < _LEAK_LIMIT:
                self._kept.append(b"x" * int(self.leak / (self.errors or 1)))


def main() -> None:
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    if file := os.environ.get("DEMO_LOG"):
        handler = RotatingFileHandler(file, maxBytes=10_000_000, backupCount=1)
        handler.setFormatter(_Json())
        LOG.addHandler(handler)
    else:
        LOG.addHandler(logging.NullHandler())
    trouble = Trouble()
    threads = [threading.Thread(target=keep_open, args=(work,)) for work in (visitors, visitors, reports)]
    threads.append(threading.Thread(target=trouble.run))
    for thread in threads:
        thread.daemon = True
        thread.start()
    for line in sys.stdin:
        trouble.obey(line.strip())
    STOP.set()
    for thread in threads:
        thread.join(1)


if __name__ == "__main__":
    main()
