"""Events of a real Celery on Redis: counts of tasks, and workers that come and go."""

from __future__ import annotations

import base64
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from databases import RedisServer, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.clients.redis import subscription
from deckwatch_exporters.queues import EXPORTER, QueuesSettings
from exporters.queues.celery_events import celery_worker, connected, ended, events, total, write_app
from exporters.queues.programs import run_python
from golden_names import assert_golden, families
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deckwatch.testing import Opened


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def config(server: RedisServer, **settings: Any) -> dict[str, Any]:
    return {"kind": "celery", "url": server.url, "events": True, **settings}


def publish(server: RedisServer, body: object, channel: str = "/0.celeryev/task.multi") -> None:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    envelope = {"body": base64.b64encode(text).decode(), "properties": {"body_encoding": "base64"}}
    with server.client() as client:
        client.publish(channel, json.dumps(envelope))


@pytest.mark.parametrize("prefix", ["", "shop[1]:"])
def test_the_counts_are_those_of_the_tasks_that_were_sent(server: RedisServer, tmp_path: Path, prefix: str) -> None:
    write_app(tmp_path, server.url, **({"global_keyprefix": prefix} if prefix else {}))
    before = set(threading.enumerate())
    with opened(EXPORTER, config(server, global_keyprefix=prefix)) as target:
        connected(target)
        with celery_worker(tmp_path):
            until(lambda: total(events(target), "celery_worker_up", hostname="shop") == 1, what="a heartbeat")
            run_python(
                tmp_path,
                "from shop import *\n"
                "for n in range(20): add.apply_async((n, n), queue='mails' if n < 5 else 'celery')\n"
                "for n in range(3): fail.delay()\n"
                "for n in range(2): retry.delay()",
            )
            until(
                lambda: (
                    total(found := events(target), "celery_task_succeeded_total") == 22
                    and total(found, "celery_task_failed_total") == 3
                ),
                what="the end of the tasks",
            )
            until(lambda: total(events(target), "celery_task_sent_total") == 29, what="all tasks published")
            # Celery sends this event after the message of the retry, which may have succeeded meanwhile.
            until(lambda: total(events(target), "celery_task_retried_total") == 4, what="the events of all retries")
            found = events(target)
    until(lambda: ended(before), what="the end of the thread")

    worker = {"hostname": "shop"}
    assert total(found, "celery_task_sent_total", name="shop.add", queue_name="mails") == 5
    assert total(found, "celery_task_sent_total", name="shop.add", queue_name="celery") == 15
    assert total(found, "celery_task_sent_total", name="shop.retry") == 2 * 3
    for kind in ("received", "started"):
        assert total(found, f"celery_task_{kind}_total", name="shop.add", **worker) == 20
        assert total(found, f"celery_task_{kind}_total", name="shop.retry", **worker) == 2 * 3
    assert total(found, "celery_task_failed_total", name="shop.fail", exception="ValueError", **worker) == 3
    assert total(found, "celery_task_failed_total", exception="ValueError") == 3
    assert total(found, "celery_task_retried_total", name="shop.retry", **worker) == 2 * 2
    assert total(found, "celery_task_succeeded_total", name="shop.retry", **worker) == 2
    assert total(found, "celery_task_runtime_count", name="shop.add") == 20
    assert total(found, "celery_task_runtime_bucket", name="shop.add", le="+Inf") == 20
    assert total(found, "celery_task_queue_wait_time_count") >= 1
    assert total(found, "celery_task_revoked_total") == total(found, "celery_task_rejected_total") == 0
    assert found.value("celery_worker_tasks_active", hostname="shop") >= 0
    assert (found.value("celery_events_malformed_total"), found.value("celery_events_disconnects_total")) == (0, 0)
    if not prefix:
        assert_golden("queues_celery_events", families(found.exposition(), "celery_"))


def test_a_killed_worker_is_down_after_its_heartbeats_stop_and_then_gone(server: RedisServer, tmp_path: Path) -> None:
    write_app(tmp_path, server.url)
    settings = config(server, hostname_label="worker", worker_timeout="5s", purge_workers_after="9s")
    with opened(EXPORTER, settings) as target:
        connected(target)
        with celery_worker(tmp_path) as running:
            until(lambda: total(events(target), "celery_worker_up", hostname="one@shop") == 1, what="a heartbeat")
            running.kill()
        name = 'celery_worker_up{hostname="one@shop"}'
        until(lambda: events(target).values.get(name) == 0, what="the worker is down")
        until(lambda: name not in events(target).values, what="the worker is forgotten")


def test_counts_survive_a_restart_of_the_broker(server: RedisServer) -> None:
    event = {"type": "task-succeeded", "uuid": "1", "hostname": "one@shop", "runtime": 0.2}
    heartbeat = {"type": "worker-heartbeat", "hostname": "one@shop", "active": 3}
    with opened(EXPORTER, config(server)) as target:
        connected(target)
        publish(server, [{**event, "type": "task-received", "name": "a"}, event, heartbeat])
        until(lambda: total(events(target), "celery_task_succeeded_total", name="a") == 1)
        assert events(target).value("celery_worker_tasks_active", hostname="shop") == 3

        server.stop()
        until(lambda: events(target).value("celery_events_connected") == 0)
        down = target.collect()
        assert "queues" in "".join(down.errors)
        assert total(down, "celery_task_succeeded_total", name="a") == 1
        assert not [it for it in down.values if it.startswith("celery_worker_up")], "unknown, not 0"
        assert down.value("celery_events_disconnects_total") == 1

        server.start()
        connected(target)
        publish(server, event)
        until(lambda: total(events(target), "celery_task_succeeded_total", name="a") == 2)
        assert events(target).value("celery_worker_up", hostname="shop") == 1


def test_odd_events_cost_themselves_alone(server: RedisServer) -> None:
    received = {"type": "task-received", "uuid": "1", "name": "good", "hostname": "one@shop"}
    odd: list[Any] = [
        {"type": "task-received"},
        {"type": "task-started", "uuid": 7, "name": ["no"], "hostname": None, "timestamp": "soon"},
        {"type": "task-failed", "uuid": "9", "exception": {"no": 1}},
        {"type": "task-succeeded", "uuid": "1", "runtime": "long"},
        {"type": "task-succeeded", "uuid": "1", "runtime": 10**400},
        {"type": "task-sent", "uuid": "2", "name": "x" * 100_000, "queue": "q" * 100_000},
        {"type": "worker-heartbeat", "hostname": "two@shop", "active": "many"},
        {"type": "task-received", "uuid": "5", "eta": 10**400},
        {"type": "task-received", "uuid": "6", "eta": "9" * 400, "name": "\ud800"},
        {"type": "worker-heartbeat"},
        {"type": "task-custom", "uuid": "3"},
    ]
    with opened(EXPORTER, config(server)) as target:
        connected(target)
        for body in (b"\xff not JSON", b"[" * 100_000, 7, [received, 8], {"type": 9}, None):
            publish(server, body)
        with server.client() as client:
            for message in ("not JSON", "[]", '{"body": 1, "properties": 2}', "[" * 100_000):
                client.publish("/0.celeryev/task.multi", message)
        publish(server, {**received, "uuid": "4"}, "/1.celeryev/task.multi")  # another database
        publish(server, odd)
        publish(server, received)
        until(lambda: total(events(target), "celery_task_received_total", name="good") == 1)
        found = events(target)
    assert found.value("celery_events_malformed_total") == 10
    assert found.value("celery_events_received_total") == len(odd) + 1
    assert total(found, "celery_task_failed_total", exception="UnknownException") == 1
    assert total(found, "celery_task_succeeded_total") == 2
    assert total(found, "celery_task_runtime_count") == 0
    assert max(len(value) for it in found.samples for _, value in it.series.labels) <= 200


def test_names_beyond_the_budget_share_a_series(server: RedisServer) -> None:
    failed = [
        {"type": "task-failed", "uuid": str(n), "name": f"task{n}", "exception": f"Error{n}('no')", "hostname": "a@b"}
        for n in range(1000)
    ]
    with opened(EXPORTER, config(server)) as target:
        connected(target)
        publish(server, failed)
        until(lambda: total(events(target), "celery_task_failed_total") == 1000)
        found = events(target)
    assert total(found, "celery_task_failed_total", name="other") == 800
    assert total(found, "celery_task_failed_total", exception="other") == 950


def test_without_the_right_to_subscribe_the_grant_is_reported(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", "~*", "resetchannels", "+@read")
        with opened(EXPORTER, config(server, username="monitor", password="secret")) as target:
            for grant in ("+psubscribe", "&/0.celeryev/*"):
                until(lambda grant=grant: grant in _problem(target), what=grant)  # type: ignore[misc]
                assert f"ACL SETUSER monitor {grant}" in [it.remedy for it in EXPORTER.check(target.settings)]
                client.execute_command("ACL", "SETUSER", "monitor", grant)
            connected(target)


def test_a_broker_that_hangs_is_noticed_and_delays_no_collection(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "_IDLE", 0.5)
    with opened(EXPORTER, config(server, timeout="1s")) as target:
        connected(target)
        server.freeze()
        until(lambda: events(target).value("celery_events_connected") == 0, what="the end of the connection")
        assert events(target).value("celery_events_disconnects_total") == 1
        server.thaw()
        connected(target)


def _problem(target: Opened) -> str:
    (snapshot,) = events(target).snapshots.values()
    return " ".join(it.text for it in snapshot.malformed)


def test_workers_must_be_down_before_they_are_purged(server: RedisServer) -> None:
    with pytest.raises(ValueError, match="purge_workers_after longer than worker_timeout"):
        QueuesSettings.model_validate(config(server, worker_timeout="10m", purge_workers_after="1m"))


def test_events_that_a_worker_sent_during_an_interruption_are_counted_as_lost(
    server: RedisServer, tmp_path: Path
) -> None:
    write_app(tmp_path, server.url)
    run = "from shop import *\nfor n in range(10): add.delay(n, n)"
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "monitor", "on", ">secret", "~*", "&*", "+@read", "+psubscribe", "+ping"
        )
        with (
            opened(EXPORTER, config(server, username="monitor", password="secret")) as target,
            celery_worker(tmp_path),
        ):
            connected(target)
            run_python(tmp_path, run)
            until(lambda: total(events(target), "celery_task_succeeded_total") == 10, what="the first tasks")
            heard = events(target).value("celery_events_received_total")
            until(lambda: events(target).value("celery_events_received_total") >= heard + 2, what="two heartbeats")
            assert events(target).value("celery_events_lost_total") == 0

            client.execute_command("ACL", "SETUSER", "monitor", "resetchannels")  # which also ends subscriptions
            until(lambda: events(target).value("celery_events_connected") == 0, what="the interruption")
            run_python(tmp_path, run)
            until(lambda: client.llen("celery") == client.hlen("unacked") == 0, what="the end of the tasks")
            client.execute_command("ACL", "SETUSER", "monitor", "&*")
            connected(target)
            until(lambda: events(target).value("celery_events_lost_total") == 10, what="the lost events")
            assert total(events(target), "celery_task_started_total") == 10
