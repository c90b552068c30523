"""Workers and processes of each queue, as a real Celery reports them on Redis and on RabbitMQ."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from databases import RedisServer, redis_server
from deckwatch.exporter import Malformed, Sample
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from deckwatch_exporters.queues.celery_workers import CeleryWorkers
from exporters.queues.celery_events import celery_worker, write_app
from rabbitmq_server import PASSWORD
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from deckwatch.testing import Opened
    from rabbitmq_server import RabbitmqServer

WORKERS, PROCESSES = "celery_active_worker_count", "celery_active_process_count"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def config(url: str, **settings: Any) -> dict[str, Any]:
    return {"kind": "celery", "url": url, "ask_workers": True, "worker_timeout": "4s", **settings}


def counts(target: Opened) -> dict[str, tuple[float, float]]:
    """Return workers and processes by queue."""
    found = target.collect("queues.celery_workers")
    found.assert_declared()
    values: dict[str, dict[str, float]] = {}
    for sample in found.samples:
        values.setdefault(dict(sample.series.labels)["queue_name"], {})[sample.series.name] = sample.value
    return {queue: (it[WORKERS], it[PROCESSES]) for queue, it in values.items()}


def follow_two_workers(target: Opened, folder: Path) -> None:
    """Start and kill workers of two processes for the queues celery and mails."""
    assert counts(target) == {}, "unknown, not 0"
    with celery_worker(folder, "one@shop"):
        until(lambda: counts(target) == {"celery": (1, 2), "mails": (1, 2)}, what="one worker")
        with celery_worker(folder, "two@shop"):
            until(lambda: counts(target).get("mails") == (2, 4), what="two workers")
        until(lambda: counts(target).get("mails") == (1, 2), what="the killed worker forgotten")
    until(lambda: counts(target) == {"celery": (0, 0), "mails": (0, 0)}, what="no worker")


@pytest.mark.parametrize("prefix", ["", "shop:"])
def test_workers_and_processes_are_counted_on_redis_and_nothing_is_left_there(
    server: RedisServer, tmp_path: Path, prefix: str
) -> None:
    write_app(tmp_path, server.url, **({"global_keyprefix": prefix} if prefix else {}))
    with server.client() as client:
        with opened(EXPORTER, config(server.url, global_keyprefix=prefix)) as target:
            follow_two_workers(target, tmp_path)
        assert not client.keys("*deckwatch*")
        assert not client.exists(f"{prefix}_kombu.binding.reply.celery.pidbox")


def test_workers_and_processes_are_counted_on_rabbitmq(rabbitmq: RabbitmqServer, tmp_path: Path) -> None:
    vhost = rabbitmq.new_vhost()
    write_app(tmp_path, rabbitmq.url(vhost))
    with opened(EXPORTER, config(rabbitmq.url(vhost))) as target:
        follow_two_workers(target, tmp_path)
    until(lambda: not [it for it in rabbitmq.api("GET", "queues", vhost) if "deckwatch" in it["name"]])


def test_a_configured_queue_without_workers_has_none(server: RedisServer) -> None:
    with opened(EXPORTER, config(server.url, queues=["orders"])) as target:
        assert counts(target) == {}
        until(lambda: counts(target) == {"orders": (0, 0)}, what="the timeout of a worker")


def no_answer(target: Opened) -> list[str]:
    """Return what `check` says of workers that do not answer."""
    return [it.remedy for it in EXPORTER.check(target.settings) if "no Celery worker answered" in it.what]


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_check_says_whether_a_worker_answers(
    server: RedisServer, tmp_path: Path, request: pytest.FixtureRequest, broker: str
) -> None:
    url = server.url
    if broker == "rabbitmq":
        rabbitmq: RabbitmqServer = request.getfixturevalue("rabbitmq")
        url = rabbitmq.url(rabbitmq.new_vhost())
    write_app(tmp_path, url)
    with opened(EXPORTER, config(url)) as target:
        assert no_answer(target) == ["start a worker with remote control, or set ask_workers: false"]
        with celery_worker(tmp_path):
            until(lambda: not no_answer(target), what="the answer of a worker")
    with server.client() as client:
        assert not client.keys("*deckwatch*")


@pytest.mark.parametrize("prefix", ["", "shop[1]:"])
@pytest.mark.parametrize(("keys", "channels"), [("~*", "allchannels"), ("%R~*", "resetchannels")])
def test_without_the_right_to_ask_the_grants_are_reported(
    server: RedisServer, prefix: str, keys: str, channels: str
) -> None:
    wanted = ["+rpop +sadd +srem +del +publish"]
    if channels == "resetchannels":
        pattern = prefix.replace("[", "\\[").replace("]", "\\]")
        lists = f"~{pattern}deckwatch.*.reply.celery.pidbox"
        wanted += [f"{lists} ~{pattern}_kombu.binding.reply.celery.pidbox", f"&{pattern}/0.celery.pidbox"]
    user = config(server.url, username="monitor", password="secret", global_keyprefix=prefix)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", keys, channels, "+@read")
        with opened(EXPORTER, user) as target:
            for grant in wanted:
                (snapshot,) = target.collect("queues.celery_workers").snapshots.values()
                remedy = f"ACL SETUSER monitor {grant}"
                assert snapshot.error == f"monitor may not ask the workers of Celery; {remedy}"
                assert remedy in [it.remedy for it in EXPORTER.check(target.settings)]
                client.execute_command("ACL", "SETUSER", "monitor", *grant.split())
            assert not target.collect("queues.celery_workers").errors


def test_without_the_rights_on_rabbitmq_the_command_that_gives_them_is_reported(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    user = rabbitmq.add_user(vhost)
    with opened(EXPORTER, config(rabbitmq.url(vhost, user, PASSWORD))) as target:
        (snapshot,) = target.collect("queues.celery_workers").snapshots.values()
        assert f"{user} may not use celery.pidbox" in snapshot.error
        (finding,) = [it for it in EXPORTER.check(target.settings) if "pidbox" in it.what]
        assert snapshot.error.endswith(finding.remedy), "it holds for every start of the agent"
        words = shlex.split(snapshot.error.split("rabbitmqctl ")[1])
        assert words[:4] == ["set_permissions", "-p", vhost, user]
        rights = dict(zip(("configure", "write", "read"), words[4:], strict=True))
        rabbitmq.api("PUT", "permissions", vhost, user, body=rights)
        assert not target.collect("queues.celery_workers").errors


def test_odd_replies_are_reported_and_cost_nothing_else() -> None:
    class Odd:
        def send(self, messages: Sequence[bytes]) -> list[bytes]:
            assert len(messages) == 2
            queues = b'{"one@shop": [{"name": "celery"}]}'
            return [b"no JSON", b"{}", b'{"a": 1}', b'{"two@shop": [7]}', b'{"three@shop": {"error": "no"}}', queues]

        def close(self) -> None: ...

    found = list(CeleryWorkers(Odd(), "deckwatch.1", 60).collect())
    assert sum(isinstance(it, Malformed) for it in found) == 4
    samples = [it for it in found if isinstance(it, Sample)]
    assert [(it.series.name, it.value) for it in samples] == [(WORKERS, 1), (PROCESSES, 0)]
