"""Moves records to the target system in five steps, in batches of 50, five at a time, with three retries."""

import operator
import os
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pybreaker
from django.core.cache import cache
from django.db import Error, close_old_connections, connection
from redis import RedisError
from tenacity import Retrying, stop_after_attempt, wait_fixed

import deckwatch

BATCH, WORKERS = 50, 5
RETRY_SECONDS = float(os.environ.get("RETRY_SECONDS", "30"))

items = deckwatch.counter("items_processed_total", "Items that a step has processed.", ["step", "outcome"])
step_time = deckwatch.histogram("processing_time_seconds", "Duration of a step for a batch, in seconds.", ["step"])
degraded = deckwatch.counter("cache_fallbacks_total", "Lookups that went on without the cache.")
breaker = deckwatch.watch_breaker(pybreaker.CircuitBreaker(fail_max=20, reset_timeout=5, name="target"))
slow = {"seconds": 0.0}


@contextmanager
def step(name, size):
    began, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "ok"
    finally:
        step_time.labels(name).observe(time.perf_counter() - began)
        items.labels(name, outcome).inc(size)


def remembered(key, make):
    """A value of the cache, or without it if Redis is down."""
    try:
        return cache.get_or_set(key, make)
    except RedisError:
        degraded.inc()
        return make()


def export(numbers):
    with connection.cursor() as cursor:
        if slow["seconds"]:
            cursor.execute("SELECT pg_sleep(%s)", [slow["seconds"]])
        cursor.execute("SELECT id, name, amount FROM records WHERE id = ANY(%s)", [numbers])
        return cursor.fetchall()


def mapped(row):
    number, name, amount = row
    return number, name.upper(), amount


def write(batch):
    request = urllib.request.Request(f"{os.environ['TARGET_URL']}/records", str(len(batch)).encode(), method="POST")
    with breaker.calling():
        urllib.request.urlopen(request, timeout=5).close()


def store(batch):
    with connection.cursor() as cursor:
        rows = [(row[0],) for row in batch]
        cursor.executemany("INSERT INTO migrated (record) VALUES (%s) ON CONFLICT DO NOTHING", rows)


def migrate(numbers):
    """One batch. Raises what the last attempt raised."""
    close_old_connections()
    with step("export", len(numbers)):
        batch = export(numbers)
    with step("map", len(batch)):
        batch = [remembered(f"record:{row[0]}", partial(mapped, row)) for row in batch]
    with step("validate", len(batch)):
        for number, _, amount in batch:
            remembered(f"validation:{number}", partial(operator.ge, amount, 0))
    attempts = Retrying(stop=stop_after_attempt(4), wait=wait_fixed(RETRY_SECONDS), reraise=True)
    with step("write", len(batch)):
        deckwatch.watch_retries(attempts, "write")(write, batch)
    with step("store", len(batch)):
        store(batch)


def run(total):
    """The whole pipeline. Progress and result are those of the job `migration`."""
    numbers = list(range(1, total + 1))
    batches = [numbers[start : start + BATCH] for start in range(0, total, BATCH)]
    with deckwatch.job("migration", total=total, every=3600) as job, ThreadPoolExecutor(WORKERS) as pool:
        for batch, done in [(batch, pool.submit(migrate, batch)) for batch in batches]:
            try:
                done.result()
                job.advance(len(batch))
            except (OSError, pybreaker.CircuitBreakerError, Error) as failure:
                job.advance(0, failed=len(batch))
                job.fail(f"a batch was given up: {failure}")
