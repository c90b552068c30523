"""Processes events. An event that fails is tried again after 2, 4 and 8 s, and then marked with its error."""

import logging
import os
import random
import time

import database
from celery import Celery, signals

import deckwatch

deckwatch.instrument_celery()
app = Celery("events", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_send_sent_event=True,
    worker_send_task_events=True,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=int(os.environ.get("PREFETCH", "1")),
)
#: The first wait; it doubles with each retry.
FIRST_RETRY = float(os.environ.get("FIRST_RETRY_SECONDS", "2"))
log = logging.getLogger("events")


@signals.setup_logging.connect
def _logging(**_):
    deckwatch.setup_logging(file=os.path.join(os.environ["LOG_DIR"], "worker.json"))


def _work(number, batch=None):
    with database.connection() as connection:
        (kind,) = connection.execute("SELECT type FROM events WHERE id = %s", (number,)).fetchone()
        time.sleep(random.uniform(0.01, 0.05))
        if kind == "poison":
            raise ValueError("this event cannot be processed")
        connection.execute(
            "UPDATE events SET processed = true, processed_at = now(), processing_error = NULL WHERE id = %s", (number,)
        )
    log.info("processed", extra={"event_id": number, "type": kind, "batch": batch})


def _failed(number, failure, batch=None):
    with database.connection() as connection:
        connection.execute("UPDATE events SET processing_error = %s WHERE id = %s", (repr(failure), number))
    log.error("given up: %s", failure, extra={"event_id": number, "batch": batch})


@app.task(bind=True, max_retries=3)
def process(self, number):
    try:
        _work(number)
    except Exception as failure:
        if self.request.retries == self.max_retries:
            _failed(number, failure)
            raise
        raise self.retry(exc=failure, countdown=FIRST_RETRY * 2**self.request.retries) from failure


@app.task
def process_batch(numbers, batch):
    for number in numbers:
        try:
            _work(number, batch)
        except ValueError as failure:
            _failed(number, failure, batch)
