"""Events of a real Celery on RabbitMQ. What the counts mean is in test_queues_celery_events.py."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.testing import opened
from deckwatch_exporters.clients.rabbitmq import consumer
from deckwatch_exporters.clients.rabbitmq.session import Session
from deckwatch_exporters.queues import EXPORTER, QueuesSettings
from exporters.queues.celery_events import celery_worker, connected, ended, events, total, write_app
from exporters.queues.programs import run_python
from rabbitmq_server import PASSWORD
from services import until

if TYPE_CHECKING:
    from pathlib import Path

    from deckwatch.testing import Opened
    from deckwatch_exporters.clients.stream import Deadline
    from rabbitmq_server import RabbitmqServer


def config(rabbitmq: RabbitmqServer, vhost: str, **settings: Any) -> dict[str, Any]:
    return {"kind": "celery", "url": rabbitmq.url(vhost), "events": True, **settings}


def publish(rabbitmq: RabbitmqServer, vhost: str, *bodies: object) -> None:
    with rabbitmq.channel(vhost) as channel:
        for body in bodies:
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            channel.basic_publish("celeryev", "task.multi", text)


def problem(target: Opened) -> str:
    (snapshot,) = events(target).snapshots.values()
    return " ".join(it.text for it in snapshot.malformed)


def queues_in(rabbitmq: RabbitmqServer, vhost: str) -> list[str]:
    return [it["name"] for it in rabbitmq.api("GET", "queues", vhost)]


@pytest.mark.parametrize("is_managed", [False, True], ids=["AMQP", "management API"])
def test_the_counts_are_those_of_the_tasks_and_no_queue_is_left_behind(
    rabbitmq: RabbitmqServer, tmp_path: Path, is_managed: bool
) -> None:
    vhost = rabbitmq.new_vhost()
    write_app(tmp_path, rabbitmq.url(vhost))
    more = {"management_url": rabbitmq.management_url} if is_managed else {}
    before = set(threading.enumerate())
    with opened(EXPORTER, config(rabbitmq, vhost, **more)) as target:
        connected(target)  # before any worker has declared the exchange
        with celery_worker(tmp_path):
            until(lambda: total(events(target), "celery_worker_up", hostname="shop") == 1, what="a heartbeat")
            run_python(
                tmp_path,
                "from shop import *\n"
                "for n in range(20): add.apply_async((n, n), queue='mails' if n < 5 else 'celery')\n"
                "for n in range(3): fail.delay()",
            )
            until(lambda: total(events(target), "celery_task_succeeded_total") == 20, what="the end of the tasks")
            until(lambda: total(events(target), "celery_task_failed_total") == 3, what="the failures")
            until(lambda: total(events(target), "celery_task_sent_total") == 23, what="all tasks published")
        found = events(target)
        listed = target.collect("queues")
    until(lambda: ended(before), what="the end of the thread")

    assert total(found, "celery_task_sent_total", name="shop.add", queue_name="mails") == 5
    assert total(found, "celery_task_failed_total", name="shop.fail", exception="ValueError", hostname="shop") == 3
    assert total(found, "celery_task_runtime_count", name="shop.add") == 20
    assert (found.value("celery_events_malformed_total"), found.value("celery_events_disconnects_total")) == (0, 0)
    assert not [name for name in listed.values if "celeryev" in name], "the queue of events is not one of the tasks"
    until(lambda: not [name for name in queues_in(rabbitmq, vhost) if "deckwatch" in name], what="the end of the queue")


def test_counts_survive_a_restart_of_the_broker(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    event = {"type": "task-succeeded", "uuid": "1", "hostname": "one@shop", "name": "a", "runtime": 0.2}
    with opened(EXPORTER, config(rabbitmq, vhost)) as target:
        connected(target)
        publish(rabbitmq, vhost, event, b"no JSON", [event, event], {**event, "kwargs": "x" * 500_000})
        until(lambda: total(events(target), "celery_task_succeeded_total") == 4, what="events in several frames")
        rabbitmq.stop()
        try:
            until(lambda: events(target).value("celery_events_connected") == 0, what="the end of the connection")
            assert total(events(target), "celery_task_succeeded_total") == 4
        finally:
            rabbitmq.start()
        connected(target)
        publish(rabbitmq, vhost, event)
        until(lambda: total(events(target), "celery_task_succeeded_total") == 5)
        assert events(target).value("celery_events_malformed_total") == 1


def test_a_broker_that_hangs_is_noticed_and_silence_alone_is_none(
    rabbitmq: RabbitmqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "_HEARTBEAT", 1)
    heartbeats: list[int] = []
    send = Session.send

    def counted(self: Session, channel: int, *methods: Any, deadline: Deadline) -> None:
        heartbeats.extend(channel for it in methods if it is self.heartbeat)
        send(self, channel, *methods, deadline=deadline)

    monkeypatch.setattr(Session, "send", counted)
    vhost = rabbitmq.new_vhost()
    with opened(EXPORTER, config(rabbitmq, vhost)) as target:
        connected(target)
        # Both sides close a connection on which they hear nothing for twice the heartbeat: four of these.
        until(lambda: len(heartbeats) >= 10, what="the heartbeats of Deckwatch")
        assert events(target).value("celery_events_disconnects_total") == 0
        rabbitmq.freeze()
        try:
            until(lambda: events(target).value("celery_events_connected") == 0, what="the end of the connection")
            assert "no heartbeat" in problem(target)
        finally:
            rabbitmq.thaw()
        connected(target)


def test_a_virtual_host_that_is_deleted_is_named(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    with opened(EXPORTER, config(rabbitmq, vhost)) as target:
        connected(target)
        rabbitmq.api("DELETE", "vhosts", vhost)
        until(lambda: f"no virtual host '{vhost}'" in problem(target), what="the cause")
        assert events(target).value("celery_events_disconnects_total") == 1


def test_without_the_rights_the_command_that_gives_them_is_reported(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    user = rabbitmq.add_user(vhost)
    with opened(EXPORTER, config(rabbitmq, vhost, url=rabbitmq.url(vhost, user, PASSWORD))) as target:
        until(lambda: "may not consume from celeryev" in problem(target), what="the missing right")
        (remedy,) = [it.remedy for it in EXPORTER.check(target.settings) if "celeryev" in it.remedy]
        assert remedy == f"rabbitmqctl set_permissions -p {vhost} {user} '^celeryev' '^celeryev' '^celeryev'"
        rights = dict.fromkeys(("configure", "write", "read"), "^celeryev")
        rabbitmq.api("PUT", "permissions", vhost, user, body=rights)
        connected(target)


def test_events_without_the_url_of_amqp_are_refused(rabbitmq: RabbitmqServer) -> None:
    with pytest.raises(ValueError, match="events come over AMQP"):
        QueuesSettings.model_validate(
            {"kind": "celery", "management_url": rabbitmq.management_url, "queues": ["celery"], "events": True}
        )
