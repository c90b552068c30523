"""Real Celery on a real RabbitMQ, on classic and quorum queues."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.programs import Worker, run_python, worker
from exporters.queues.support import eventually, figures, of_queue, queues_in
from services import until

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from deckwatch.testing import Opened
    from rabbitmq_server import RabbitmqServer

_APP = """
import os, time
from celery import Celery
from kombu import Exchange, Queue

app = Celery("shop", broker={url!r})
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
app.conf.task_queues = [
    Queue(name, Exchange(name, type="topic"), routing_key=name, queue_arguments=arguments)
    for name, arguments in {queues!r}.items()
]
app.conf.task_default_queue = "celery"
app.conf.task_default_queue_type = {default_type!r}
app.conf.worker_detect_quorum_queues = True

@app.task
def wait(path):
    while not os.path.exists(path):
        time.sleep(0.05)
"""
_CLASSIC: dict[str, Any] = {}
_QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}


def write_app(folder: Path, url: str, queues: dict[str, dict[str, Any]], default_type: str = "classic") -> None:
    (folder / "shop.py").write_text(_APP.format(url=url, queues=queues, default_type=default_type))


def celery_worker(folder: Path, *flags: str) -> AbstractContextManager[Worker]:
    quick = ("--without-mingle", "--without-gossip", "--without-heartbeat")
    return worker(folder, ["celery", "-A", "shop", "worker", "-P", "prefork", "--loglevel", "warning", *quick, *flags])


def celery_samples(target: Opened) -> set[tuple[str, str, float]]:
    """Return name, queue and value of the samples under celery-exporter's names."""
    found = target.collect().samples
    return {(it.series.name, dict(it.series.labels).get("queue_name", ""), it.value) for it in found}


def both(rabbitmq: RabbitmqServer, vhost: str) -> dict[str, Any]:
    return {"kind": "celery", "url": rabbitmq.url(vhost), "management_url": rabbitmq.management_url}


def test_values_are_correct_before_the_first_worker_after_its_death_and_after_a_restart_of_the_broker(
    rabbitmq: RabbitmqServer, tmp_path: Path
) -> None:
    vhost = rabbitmq.new_vhost()
    names = {"celery": _CLASSIC, "orders": _QUORUM}
    write_app(tmp_path, rabbitmq.url(vhost), names)
    gate = tmp_path / "go"
    listed = {"queues": list(names)}
    with (
        opened(EXPORTER, {"kind": "celery", "url": rabbitmq.url(vhost), **listed}) as amqp,
        opened(EXPORTER, {**both(rabbitmq, vhost), **listed}) as managed,
    ):
        for target, name in product((amqp, managed), names):
            empty = figures(target, name)
            assert (empty["length"], empty["consumers"], empty["oldest_message_age_seconds"]) == (0, 0, 0)

        send = f"wait.apply_async(({str(gate)!r},), queue=queue)"
        run_python(tmp_path, f"from shop import *\nfor queue in {[*names] * 500}: {send}")
        for name in names:
            eventually(amqp, name, lambda found: found["length"] == 500)
            waiting = eventually(managed, name, lambda found: (found.get("length"), found.get("consumers")) == (500, 0))
            assert waiting["in_flight"] == 0
            eventually(managed, name, lambda found: found["enqueued_total"] == 500)
            assert waiting["oldest_message_age_exact"] == 0

        with celery_worker(tmp_path, "-c", "2") as running:
            for name in names:
                eventually(managed, name, lambda found: (found["in_flight"], found["length"]) == (2, 498))
                working = figures(amqp, name)
                assert (working["length"], working["consumers"]) == (498, 1)
                assert "in_flight" not in working
            running.kill()
        for name in names:
            killed = eventually(managed, name, lambda found: found["in_flight"] == 0)
            assert killed["length"] == 500, "the broker delivers again what a killed worker held"
            eventually(amqp, name, lambda found: found["length"] == 500)

        rabbitmq.stop()
        try:
            for target in (amqp, managed):
                down = target.collect()
                assert down.value("queue_up") == 0
                assert not of_queue(down, "celery"), "old values are never served as current"
        finally:
            rabbitmq.start()
        for name in names:
            eventually(amqp, name, lambda found: found["length"] == 500)
            eventually(managed, name, lambda found: found.get("length") == 500)

        gate.touch()
        with celery_worker(tmp_path, "-c", "2"):
            for name in names:
                drained = eventually(managed, name, lambda found: found["length"] + found["in_flight"] == 0)
                assert (drained["oldest_message_age_seconds"], drained["oldest_message_age_exact"]) == (0, 1)
                assert figures(amqp, name)["length"] == 0
                eventually(managed, name, lambda found: found["processed_total"] == 500)


def test_queues_are_discovered_without_those_of_remote_control_events_and_results(
    rabbitmq: RabbitmqServer, tmp_path: Path
) -> None:
    vhost = rabbitmq.new_vhost()
    write_app(tmp_path, rabbitmq.url(vhost), {"celery": _CLASSIC, "emails": {"x-max-priority": 9}})
    run_python(
        tmp_path,
        "from shop import *\nfor p in (0, 9): wait.apply_async(('/',), queue='emails', priority=p)\n"
        "wait.apply_async(('/',), queue='celery')",
    )
    with rabbitmq.channel(vhost) as channel:
        channel.queue_declare("celeryev.receiver", durable=True)
        channel.queue_declare("", exclusive=True)
        with opened(EXPORTER, both(rabbitmq, vhost)) as target:
            eventually(target, "emails", lambda found: (found.get("length"), found.get("consumers")) == (2, 0))
            with celery_worker(tmp_path, "-c", "1", "-Q", "emails"):
                until(lambda: ("celery_active_consumer_count", "emails", 1) in celery_samples(target))
                until(lambda: any("pidbox" in it["name"] for it in rabbitmq.api("GET", "queues", vhost)))
                assert queues_in(target) == {"celery", "emails"}
            until(lambda: ("celery_queue_length", "emails", 0) in celery_samples(target))


def _is_exact(queue: dict[str, float]) -> bool:
    return queue.get("oldest_message_age_exact") == 1 and queue.get("oldest_message_age_seconds", 0) > 0


def test_the_age_is_exact_where_messages_have_a_timestamp(rabbitmq: RabbitmqServer, tmp_path: Path) -> None:
    vhost = rabbitmq.new_vhost()
    write_app(tmp_path, rabbitmq.url(vhost), {"celery": _CLASSIC})
    run_python(
        tmp_path,
        "from shop import *\nimport time\nfrom celery.signals import before_task_publish\n"
        "@before_task_publish.connect\n"
        "def stamp(properties, **_): properties['timestamp'] = int(time.time()) - 600\n"
        "wait.delay('/')",
    )
    with opened(EXPORTER, both(rabbitmq, vhost)) as target:
        # Until the management API has refreshed its figures, the age is a lower bound.
        found = eventually(target, "celery", _is_exact)
    assert 600 <= found["oldest_message_age_seconds"] < 900


def test_tasks_in_native_delayed_delivery_are_counted_and_their_queues_are_not_task_queues(
    rabbitmq: RabbitmqServer, tmp_path: Path
) -> None:
    vhost = rabbitmq.new_vhost()
    write_app(tmp_path, rabbitmq.url(vhost), {"celery": _QUORUM}, default_type="quorum")
    with (
        opened(EXPORTER, {"kind": "celery", "url": rabbitmq.url(vhost)}) as amqp,
        opened(EXPORTER, both(rabbitmq, vhost)) as managed,
    ):
        with celery_worker(tmp_path, "-c", "1"):  # it creates the queues
            until(lambda: any(it["name"] == "celery_delayed_0" for it in rabbitmq.api("GET", "queues", vhost)))
            eventually(managed, "celery", lambda found: found.get("consumers") == 1)
            run_python(tmp_path, "from shop import *\nfor _ in range(3): wait.apply_async(('/',), countdown=3600)")
            until(lambda: ("celery_delayed_messages", "", 3) in celery_samples(managed))
        assert amqp.collect().value("celery_delayed_messages") == 3
        assert queues_in(managed) == {"celery"}
