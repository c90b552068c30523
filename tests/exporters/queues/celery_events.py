"""A Celery application that sends events, and what the exporter makes of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from exporters.queues.programs import Worker, worker
from services import until

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from deckwatch.testing import Collected, Opened

_APP = """
from celery import Celery
from celery.exceptions import Reject

app = Celery("shop", broker={url!r})
app.conf.broker_transport_options = {options!r}
app.conf.task_send_sent_event = True
app.conf.broker_connection_retry_on_startup = True

@app.task(name="shop.add")
def add(a, b):
    return a + b

@app.task(name="shop.fail")
def fail():
    raise ValueError("a secret")

@app.task(name="shop.retry", bind=True)
def retry(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)

@app.task(name="shop.reject", acks_late=True)
def reject():
    raise Reject("unusable", requeue=False)
"""


def write_app(folder: Path, url: str, **options: Any) -> None:
    (folder / "shop.py").write_text(_APP.format(url=url, options=options))


def celery_worker(folder: Path, name: str = "one@shop") -> AbstractContextManager[Worker]:
    command = ["celery", "-A", "shop", "worker", "-P", "prefork", "-c", "2", "-E", "-n", name, "-Q", "celery,mails"]
    return worker(folder, [*command, "--loglevel", "warning", "--without-mingle", "--without-gossip"])


def connected(target: Opened) -> None:
    until(lambda: events(target).value("celery_events_connected") == 1, what="the subscription")


def events(target: Opened) -> Collected:
    collected = target.collect("queues.celery_events")
    collected.assert_declared()
    return collected


def total(collected: Collected, name: str, /, **labels: str) -> float:
    return sum(
        sample.value
        for sample in collected.samples
        if sample.series.name == name and labels.items() <= dict(sample.series.labels).items()
    )


def ended(threads: set[threading.Thread]) -> bool:
    return not any(it.name == "celery-events" for it in set(threading.enumerate()) - threads)
