"""Every setting of every kind of queue has an effect: another result on a real broker, or a test that shows it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from databases import RedisServer, redis_server
from deckwatch.exporter import Secret
from deckwatch.testing import opened
from deckwatch_exporters.clients.dsn import conninfo
from deckwatch_exporters.clients.rabbitmq.settings import ConnectionSettings as RabbitmqConnection
from deckwatch_exporters.clients.redis.settings import ConnectionSettings as RedisConnection
from deckwatch_exporters.queues import EXPORTER, QueuesSettings
from deckwatch_exporters.queues.celery_events_state import EventState
from deckwatch_exporters.queues.postgres_broker import PostgresQueuesSettings
from exporters.setting_names import models_in, setting_names, shown_by_test

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    from pydantic import BaseModel

#: Settings of the connection, which all kinds of a broker share. For Redis, see exporters/redis/test_settings.py.
_RABBITMQ, _FAULTS = "test_queues_rabbitmq.py::", "test_queues_rabbitmq_faults.py::"
_CELERY_EVENTS, _CELERY_WORKERS = "test_queues_celery_events.py::", "test_queues_celery_workers.py::"
_REFUSED = "test_a_wrong_password_or_virtual_host_and_missing_permissions_are_explained"
_OF_RABBITMQ = {
    "url": _RABBITMQ + "test_over_amqp_only_the_configured_queues_are_read_and_one_that_does_not_exist_is_empty",
    "management_url": _RABBITMQ + "test_names_types_labels_and_values_are_those_of_the_prometheus_plugin",
    "vhost": _FAULTS + "test_urls_are_read_as_celery_and_pika_read_them",
    "username": _FAULTS + _REFUSED,
    "password": _FAULTS + _REFUSED,
    "tls.ca_file": _FAULTS + "test_tls_verifies_the_server_and_names_the_setting_to_check",
    "tls.cert_file": "test_redis_connections.py::test_the_run_fails_without_a_required_client_certificate",
    "tls.key_file": "test_redis_connections.py::test_the_run_fails_without_a_required_client_certificate",
    "tls.verify": _FAULTS + "test_tls_verifies_the_server_and_names_the_setting_to_check",
    "timeout": _FAULTS + "test_a_hung_broker_never_blocks_metrics_and_is_read_again_once_it_answers",
}
_OF_POSTGRESQL = {
    "dsn": "test_queues_sql.py::test_an_events_table_is_exported_as_a_queue",
    "password": "test_queues_settings.py::test_a_password_beside_the_dsn_is_part_of_the_connection",
    "search_path": "test_queues_sql.py::test_the_search_path_of_the_target_applies",
    "timeout": "test_queues_sql.py::test_an_invalid_query_is_explained",
}
_EVENTS = {
    "events": _CELERY_EVENTS + "test_the_counts_are_those_of_the_tasks_that_were_sent",
    "hostname_label": "test_queues_settings.py::test_settings_of_events_change_their_labels",
    "default_queue_name": "test_queues_settings.py::test_settings_of_events_change_their_labels",
    "worker_timeout": _CELERY_EVENTS + "test_a_killed_worker_is_down_after_its_heartbeats_stop_and_then_gone",
    "purge_workers_after": (_CELERY_EVENTS + "test_a_killed_worker_is_down_after_its_heartbeats_stop_and_then_gone"),
    "ask_workers": _CELERY_WORKERS + "test_workers_and_processes_are_counted_on_redis_and_nothing_is_left_there",
}
_FOUND = {
    "queues": _RABBITMQ + "test_temporary_queues_are_left_out_unless_the_config_names_them",
    "discover": _RABBITMQ + "test_without_discovery_the_dead_letters_of_the_named_queues_are_still_counted",
}
_OTHER, _FRESH = {"queues": ["other"]}, {"queues": ["fresh"]}

#: By kind: settings with another result than those beside them, or the test that shows the effect.
Effect = tuple[dict[str, Any], dict[str, Any]] | str
EFFECTS: dict[str, dict[str, Effect]] = {
    "ArqSettings": {"queues": (_FRESH, {})},
    "AutoSettings": {},
    "AutoPostgresSettings": {},
    "BullmqSettings": {"queues": (_FRESH, {}), "prefix": ({"prefix": "mail"}, {})},
    "CelerySettings": {
        **_EVENTS,
        "queues": (_FRESH, {}),
        "discover": ({"discover": False, **_OTHER}, _OTHER),
        "global_keyprefix": ({"global_keyprefix": "app1:", **_OTHER}, _OTHER),
        "priority_steps": ({"priority_steps": [0], **_OTHER}, _OTHER),
        "sep": ({"sep": "|", **_OTHER}, _OTHER),
        "timestamp_headers": ({"timestamp_headers": ["sent"], "queues": ["tasks"]}, {"queues": ["tasks"]}),
        "max_unacked": ({"max_unacked": 0, **_OTHER}, _OTHER),
    },
    "CeleryRabbitmqSettings": {**_EVENTS, **_FOUND},
    "DjangoTasksSettings": {"queues": "test_queues_django.py::test_task_values_are_correct_in_every_state"},
    "DramatiqSettings": {"queues": (_FRESH, {}), "namespace": ({"namespace": "mail", **_OTHER}, _OTHER)},
    "DramatiqRabbitmqSettings": {**_FOUND},
    "HueySettings": {"queues": (_FRESH, {}), "priorities": ({"priorities": True, **_OTHER}, _OTHER)},
    "ObanSettings": {"queues": "test_queues_oban.py::test_job_values_are_correct_in_every_state"},
    "PgmqSettings": {"queues": "test_queues_pgmq.py::test_message_values_are_correct_in_every_state"},
    "ProcrastinateSettings": {"queues": "test_queues_procrastinate.py::test_job_values_are_correct_in_every_state"},
    "RabbitmqSettings": {**_FOUND},
    "RedisListSettings": {
        "queues.key": ({"queues": [{"key": "a"}]}, {"queues": [{"key": "b"}]}),
        "queues.name": ({"queues": [{"key": "a", "name": "other"}]}, {"queues": ["a"]}),
        "queues.in_flight": ({"queues": [{"key": "a", "in_flight": "b"}]}, {"queues": ["a"]}),
        "queues.delayed": ({"queues": [{"key": "a", "delayed": "b"}]}, {"queues": ["a"]}),
        "queues.dead": ({"queues": [{"key": "a", "dead": "b"}]}, {"queues": ["a"]}),
        "pop": (
            {"queues": ["a"], "timestamp_field": "at", "pop": "left"}, {"queues": ["a"], "timestamp_field": "at"},
        ),
        "timestamp_field": ({"queues": ["a"], "timestamp_field": "at"}, {"queues": ["a"]}),
    },
    "RedisStreamSettings": {
        "queues.stream": ({"queues": ["stream"]}, {"queues": ["log"]}),
        "queues.group": ({"queues": [{"stream": "stream", "group": "g"}]}, {"queues": ["stream"]}),
    },
    "RqSettings": {"queues": (_FRESH, {})},
    "SaqSettings": {"queues": (_FRESH, {})},
    "SidekiqSettings": {"queues": (_FRESH, {})},
    "SqlSettings": {"query": "test_queues_sql.py::test_an_invalid_query_is_explained"},
}  # fmt: skip
MODELS = {model.__name__: model for model in models_in(QueuesSettings.model_fields["root"].annotation)}


def _shared(model: type[BaseModel]) -> tuple[set[str], dict[str, str]]:
    """Return the settings of the kind's connection, and the tests that show their effects."""
    for base, tests in ((RabbitmqConnection, _OF_RABBITMQ), (PostgresQueuesSettings, _OF_POSTGRESQL)):
        if issubclass(model, base):
            return setting_names(base), tests
    assert issubclass(model, RedisConnection)
    return setting_names(RedisConnection), {}


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_has_a_change_that_shows_its_effect(name: str) -> None:
    connection, tests = _shared(MODELS[name])

    assert setting_names(MODELS[name]) - connection - {"kind"} == EFFECTS[name].keys()
    if tests:
        assert connection == tests.keys()
    for test in tests.values():
        assert shown_by_test(test)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        with running.client() as client:
            _seed(client)
        yield running


def _seed(client: redis.Redis) -> None:
    now = time.time()
    for key in ("a", "b", "b"):
        client.lpush(key, json.dumps({"at": now - 60}))
    client.lpush("a", json.dumps({"at": now - 3600}))
    client.xadd("stream", {"n": 1})
    client.xgroup_create("stream", "g", id="0")
    client.xgroup_create("stream", "h", id="0")
    client.xadd("log", {"n": 1})
    # Celery: with a priority, a prefix, another separator and a header with a time.
    client.lpush("tasks", json.dumps({"headers": {"sent": now - 60}, "properties": {"delivery_tag": "1"}}))
    client.lpush("other\x06\x163", "{}")
    client.lpush("app1:other", "{}", "{}")
    client.lpush("other|3", "{}", "{}")
    client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16found")
    client.hset("unacked", "1", json.dumps([{"headers": {}, "properties": {}}, "", "other"]))
    client.zadd("unacked_index", {"1": now})
    client.zadd("huey.redis.other", {"x": 1})
    for prefix in ("bull", "mail"):
        client.hset(f"{prefix}:{prefix}:meta", "a", 1)
    client.rpush("mail:other", "1")


def _kind(name: str) -> str:
    return str(MODELS[name].model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]  # a Literal


def _values(server: RedisServer, kind: str, settings: dict[str, Any]) -> dict[str, float]:
    with opened(EXPORTER, {"kind": kind, "url": server.url, **settings}) as target:
        collected = target.collect()
    return {name: round(value, -1) if "age_seconds" in name else value for name, value in collected.values.items()}


@pytest.mark.parametrize(
    ("name", "setting"), [(name, setting) for name, settings in EFFECTS.items() for setting in settings]
)
def test_each_setting_has_an_effect(server: RedisServer, name: str, setting: str) -> None:
    effect = EFFECTS[name][setting]
    if isinstance(effect, str):
        assert shown_by_test(effect)
        return
    changed, given = effect

    assert _values(server, _kind(name), changed) != _values(server, _kind(name), given)


@pytest.mark.parametrize(
    ("label", "queue", "hostname"), [("host", "celery", "host"), ("worker", "mails", "w@host"), ("none", "mails", "")]
)
def test_settings_of_events_change_their_labels(label: Any, queue: str, hostname: str) -> None:
    state = EventState(label, 60, 600, default_queue_name=queue)
    state.apply({"type": "task-received", "uuid": "1", "name": "a", "hostname": "w@host"})

    (labels,) = state.counts["received"]
    assert (labels.queue_name, labels.hostname) == (queue, hostname)


def test_a_password_beside_the_dsn_is_part_of_the_connection() -> None:
    found = conninfo_to_dict(conninfo(Secret("host=127.0.0.1 user=monitor"), Secret("p w'd")))

    assert found["password"] == "p w'd"
