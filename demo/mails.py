"""The demo's Celery application: the mails of the shop. `load.py` publishes the tasks, and a worker sends them.

It reads DEMO_REDIS_URL from the environment.
"""

from __future__ import annotations

import os
import random
import time

from celery import Celery  # type: ignore[import-untyped]  # Celery has no types

QUEUE = "mails"

app = Celery("shop", broker=os.environ["DEMO_REDIS_URL"])
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_send_sent_event=True,
    worker_send_task_events=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)


class Bounced(Exception):
    """The address does not exist."""


@app.task(name="shop.send_mail")  # type: ignore[untyped-decorator]
def send_mail(bounces: bool) -> None:
    time.sleep(random.uniform(0.02, 0.08))
    if bounces:
        raise Bounced
