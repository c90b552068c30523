"""Real Celery on Redis: waiting tasks, their age, and tasks reserved by workers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from databases import RedisServer, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from deckwatch_exporters.queues.celery import CelerySettings
from exporters.queues.programs import Worker, run_python, worker
from exporters.queues.support import eventually, figures, of_queue, queues_in
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_APP = """
import time
from celery import Celery
from celery.signals import before_task_publish

app = Celery("shop", broker={url!r})
app.conf.broker_transport_options = {options!r}
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True

@app.task
def wait(path):
    while not __import__("os").path.exists(path):
        time.sleep(0.05)
"""
_OPTIONS = {"priority_steps": [0, 3, 6, 9], "queue_order_strategy": "priority", "visibility_timeout": 3600}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def write_app(folder: Path, url: str, **options: Any) -> None:
    (folder / "shop.py").write_text(_APP.format(url=url, options={**_OPTIONS, **options}))


def celery_worker(folder: Path, *flags: str) -> AbstractContextManager[Worker]:
    return worker(folder, ["celery", "-A", "shop", "worker", "-P", "prefork", "--loglevel", "warning", *flags])


def test_queue_values_are_correct_before_the_first_worker_and_after_a_restart(
    server: RedisServer, tmp_path: Path
) -> None:
    write_app(tmp_path, server.url)
    gate = tmp_path / "go"
    with opened(EXPORTER, {"kind": "celery", "url": server.url, "queues": ["celery"]}) as target:
        assert figures(target, "celery")["length"] == 0
        assert figures(target, "celery")["oldest_message_age_seconds"] == 0

        send = f"wait.apply_async(({str(gate)!r},), priority=(0, 3, 6, 9)[n % 4])"
        run_python(tmp_path, f"from shop import *\nfor n in range(1000): {send}")
        waiting = figures(target, "celery")
        assert waiting["length"] == 1000
        assert (waiting["in_flight"], waiting["delayed"]) == (0, 0)
        assert waiting["oldest_message_age_exact"] == 0

        with celery_worker(tmp_path, "-c", "2") as running:
            working = eventually(target, "celery", lambda found: found["in_flight"] == 2)
            assert working["length"] == 998
            running.kill()
        killed = figures(target, "celery")
        assert (killed["length"], killed["in_flight"]) == (998, 2), "what a killed worker held stays unacknowledged"
        assert killed["oldest_in_flight_age_seconds"] > 0

        gate.touch()
        with celery_worker(tmp_path, "-c", "2"):
            drained = eventually(target, "celery", lambda found: found["length"] == 0)
        assert drained["oldest_message_age_seconds"] == 0
        assert drained["oldest_message_age_exact"] == 1

        server.stop()
        down = target.collect()
        assert "queues" in down.errors
        assert not of_queue(down, "celery"), "old values are never served as current"
        server.start()
        assert figures(target, "celery")["length"] == 0
        assert figures(target, "celery")["in_flight"] == 0


def test_a_reserved_task_with_an_eta_is_counted_as_delayed(server: RedisServer, tmp_path: Path) -> None:
    write_app(tmp_path, server.url)
    run_python(tmp_path, "from shop import *\nfor _ in range(3): wait.apply_async(('/',), countdown=3600)")
    with opened(EXPORTER, {"kind": "celery", "url": server.url}) as target:
        assert figures(target, "celery")["length"] == 3
        with celery_worker(tmp_path, "-c", "1"):
            held = eventually(target, "celery", lambda found: found["delayed"] == 3)
    assert (held["length"], held["in_flight"], held["oldest_in_flight_age_seconds"]) == (0, 0, 0)


def test_queues_are_discovered_before_any_worker_starts_and_stay_at_0_while_bound(
    server: RedisServer, tmp_path: Path
) -> None:
    write_app(tmp_path, server.url)
    run_python(tmp_path, "from shop import *\nfor q in ('emails', 'videos'): wait.apply_async(('/',), queue=q)")
    with opened(EXPORTER, {"kind": "celery", "url": server.url}) as target:
        assert figures(target, "emails")["length"] == 1
        with server.client() as client:
            client.delete("emails", "videos", "_kombu.binding.videos")
        assert figures(target, "emails")["length"] == 0
        assert figures(target, "videos") == {}


def test_the_workers_control_queues_are_not_exported(server: RedisServer, tmp_path: Path) -> None:
    write_app(tmp_path, server.url)
    with opened(EXPORTER, {"kind": "celery", "url": server.url}) as target, celery_worker(tmp_path, "-c", "1"):
        until(lambda: server.client().exists("_kombu.binding.celery.pidbox"))
        until(lambda: of_queue(target.collect(), "celery"))
        assert queues_in(target) == {"celery"}


def test_key_prefix_separator_and_priority_steps_are_configurable(server: RedisServer, tmp_path: Path) -> None:
    options = {"global_keyprefix": "shop[1]:", "sep": ":", "priority_steps": [0, 5]}
    write_app(tmp_path, server.url, **options)
    run_python(tmp_path, "from shop import *\nfor p in (0, 5, 5): wait.apply_async(('/',), priority=p)")
    with server.client() as client:
        assert client.llen("shop[1]:celery:5") == 2
    with opened(EXPORTER, {"kind": "celery", "url": server.url, **options}) as target:
        assert figures(target, "celery")["length"] == 3


def test_the_age_is_exact_if_every_message_has_a_publication_time(server: RedisServer, tmp_path: Path) -> None:
    write_app(tmp_path, server.url)
    run_python(
        tmp_path,
        "from shop import *\nimport time\n"
        "wait.apply_async(('/',), headers={'published_at': time.time() - 600})\n"
        "wait.apply_async(('/',), headers={'published_at': time.time() - 60})",
    )
    with opened(EXPORTER, {"kind": "celery", "url": server.url}) as target:
        found = figures(target, "celery")
        assert 600 <= found["oldest_message_age_seconds"] < 900
        assert found["oldest_message_age_exact"] == 1
        run_python(tmp_path, "from shop import *\nwait.apply_async(('/',), priority=9)")
        mixed = figures(target, "celery")
        assert mixed["oldest_message_age_exact"] == 0
        assert mixed["oldest_message_age_seconds"] >= 600


def test_the_lower_bound_of_the_age_grows_until_the_head_changes(server: RedisServer, tmp_path: Path) -> None:
    write_app(tmp_path, server.url)
    run_python(tmp_path, "from shop import *\nwait.delay('/a'); wait.delay('/b')")
    with opened(EXPORTER, {"kind": "celery", "url": server.url}) as target:
        first = figures(target, "celery")["oldest_message_age_seconds"]
        time.sleep(0.2)
        second = figures(target, "celery")["oldest_message_age_seconds"]
        assert second >= first + 0.2
        with server.client() as client:
            client.rpop("celery")
        assert figures(target, "celery")["oldest_message_age_seconds"] < second


def test_a_key_of_the_wrong_type_affects_only_its_queue(server: RedisServer, tmp_path: Path) -> None:
    write_app(tmp_path, server.url)
    run_python(tmp_path, "from shop import *\nwait.delay('/')")
    with server.client() as client:
        client.set("emails", "not a list")
    with opened(EXPORTER, {"kind": "celery", "url": server.url, "queues": ["emails"]}) as target:
        collected = target.collect()
        assert collected.malformed == ["LLEN emails"]
        assert "length" not in of_queue(collected, "emails")
        assert of_queue(collected, "celery")["length"] == 1


def test_a_denied_command_is_reported_with_its_grant(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", "~*", "+@read", "-llen")
    settings = {"kind": "celery", "url": server.url, "username": "monitor", "password": "secret", "queues": ["a"]}
    with opened(EXPORTER, settings) as target:
        assert "ACL SETUSER monitor +llen" in target.collect().errors["queues"]
        (missing, *_) = EXPORTER.check(target.settings)
    assert missing.remedy == "ACL SETUSER monitor +llen"


def test_without_scan_the_configured_queues_are_still_reported(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", "~*", "+@read", "-scan")
    settings = {"kind": "celery", "url": server.url, "username": "monitor", "password": "secret", "queues": ["a"]}
    with opened(EXPORTER, settings) as target:
        collected = target.collect()
        assert of_queue(collected, "a")["length"] == 0
        assert collected.malformed == ["SCAN or SMEMBERS of _kombu.binding.*"]


def test_a_thousand_queues_need_one_round_trip_per_kind_of_command(server: RedisServer) -> None:
    names = [f"q{n}" for n in range(1000)]
    with server.client() as client:
        for name in names:
            client.sadd(f"_kombu.binding.{name}", f"{name}\x06\x16\x06\x16{name}")
            client.lpush(name, json.dumps({"headers": {}, "id": name}))
        with opened(EXPORTER, {"kind": "celery", "url": server.url}) as target:
            assert len([it for it in target.collect().samples if it.series.name == "queue_length"]) == 1000
            reads: Any = client.info("stats")
            before = reads["total_reads_processed"]
            assert target.collect().value("queue_length", queue="q999") == 1
            reads = client.info("stats")
    # Redis reads a large request in chunks of at least 16 KiB: 4 000 LLEN of 45 bytes are 11 chunks.
    assert reads["total_reads_processed"] - before < 40


@pytest.mark.parametrize(
    ("given", "ours", "verify"),
    [
        ("redis+socket:///run/redis.sock?virtual_host=3", "unix:///run/redis.sock?db=3", True),
        ("rediss://h:6380/1?ssl_cert_reqs=CERT_REQUIRED", "rediss://h:6380/1", True),
        ("rediss://h:6380/1?ssl_cert_reqs=none", "rediss://h:6380/1", False),
        ("redis://h/2?health_check_interval=10", "redis://h/2", True),
    ],
)
def test_celery_url_schemes_are_supported(given: str, ours: str, verify: bool) -> None:
    settings = CelerySettings.model_validate({"kind": "celery", "url": given})
    assert settings.url.get_secret_value() == ours
    assert settings.tls.verify is verify
