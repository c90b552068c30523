"""A small shop: sessions in Redis, orders in PostgreSQL, a log in JSON; now and then a slow query and an error."""

import argparse
import json
import logging
import random
import signal
import socket
import threading
import time
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import hiredis
import psycopg

_ORDERS = """CREATE TABLE IF NOT EXISTS orders (
    id bigserial PRIMARY KEY, customer int NOT NULL, cents int NOT NULL, placed timestamptz NOT NULL DEFAULT now())"""
_KEPT = 50_000  # orders; the demo's disk does not grow for ever


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": record.created, "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps({**fields, **getattr(record, "fields", {})})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", required=True, metavar="URL")
    parser.add_argument("--postgres", required=True, metavar="DSN")
    parser.add_argument("--secrets", type=Path, required=True, metavar="DIR", help="with the files `redis` and `app`")
    parser.add_argument("--log", type=Path, required=True, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=0, help="then end; 0: go on until told to stop")
    options = parser.parse_args()
    log = _logger(options.log)
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    done = 0
    while not stop.is_set() and (not options.rounds or done < options.rounds):
        try:
            cache = Cache(options.redis, _secret(options.secrets, "redis"))
            password = _secret(options.secrets, "app")
            with psycopg.connect(options.postgres, password=password, autocommit=True, connect_timeout=5) as database:
                database.execute(_ORDERS)
                while not stop.wait(random.expovariate(5)) and (not options.rounds or done < options.rounds):
                    order(cache, database, log)
                    done += 1
        except (hiredis.HiredisError, psycopg.Error, OSError) as failure:
            log.error("the shop is closed", extra={"fields": {"error": str(failure)}})
            stop.wait(5)


class Cache:
    """A connection to Redis with what the agent's image has: hiredis, but no client library."""

    def __init__(self, url: str, password: str) -> None:
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname or "localhost", where.port or 6379), timeout=5)
        self._reader = hiredis.Reader()
        self.run("AUTH", password)

    def run(self, *words: str | int) -> object:
        self._socket.sendall(hiredis.pack_command(words))
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("Redis closed the connection")
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply


def order(cache: Cache, database: psycopg.Connection, log: logging.Logger) -> None:
    """One visitor: looks, perhaps buys."""
    customer = int(random.paretovariate(0.8)) % 2000
    started = time.perf_counter()
    known = cache.run("GET", f"session:{customer}") is not None
    if not known:
        cache.run("SETEX", f"session:{customer}", 120, "x" * random.randint(50, 500))
    cents = random.randint(100, 20_000)
    database.execute("INSERT INTO orders (customer, cents) VALUES (%s, %s)", (customer, cents))
    chance = random.random()
    if chance < 0.01:
        database.execute("SELECT pg_sleep(%s), sum(cents) FROM orders", (random.uniform(1, 3),))
    elif chance < 0.1:
        database.execute("SELECT customer, sum(cents) FROM orders GROUP BY customer ORDER BY 2 DESC LIMIT 10")
    elif chance < 0.12:
        database.execute("DELETE FROM orders WHERE id <= (SELECT max(id) FROM orders) - %s", (_KEPT,))
    fields = {"customer": customer, "cents": cents, "seconds": round(time.perf_counter() - started, 4)}
    if chance > 0.99:
        log.error("payment refused", extra={"fields": fields})
    else:
        log.info("order placed", extra={"fields": fields})


def _secret(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()


def _logger(file: Path) -> logging.Logger:
    from logging.handlers import RotatingFileHandler

    handler = RotatingFileHandler(file, maxBytes=10_000_000, backupCount=1)
    handler.setFormatter(_Json())
    log = logging.getLogger("shop")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    return log


if __name__ == "__main__":
    main()
