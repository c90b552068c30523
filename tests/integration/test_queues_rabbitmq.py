"""Queues of a real RabbitMQ: over AMQP, over the management API, and beside its own Prometheus plugin."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pika

from comparison import exposed
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.support import eventually, figures, of_queue, queues_in
from golden_names import assert_golden, families, undeclared
from services import agent, until

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitmq_server import RabbitmqServer

_PLUGIN_NAMES = (
    "rabbitmq_queue_messages",
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "rabbitmq_queue_consumers",
)


def over_amqp(rabbitmq: RabbitmqServer, vhost: str, *queues: str) -> dict[str, Any]:
    return {"kind": "rabbitmq", "url": rabbitmq.url(vhost), "queues": list(queues)}


def managed(rabbitmq: RabbitmqServer, vhost: str, **further: Any) -> dict[str, Any]:
    return {"kind": "rabbitmq", "url": rabbitmq.url(vhost), "management_url": rabbitmq.management_url, **further}


def test_names_types_labels_and_values_are_those_of_the_prometheus_plugin(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel, opened(EXPORTER, managed(rabbitmq, vhost)) as target:
        channel.confirm_delivery()
        channel.queue_declare("classic", durable=True)
        channel.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
        for queue in ("classic", "quorum"):
            for _ in range(5):
                channel.basic_publish("", queue, b"{}")
        channel.basic_qos(prefetch_count=2)
        for queue in ("classic", "quorum"):
            channel.basic_consume(queue, lambda *_: None)
        for queue in ("classic", "quorum"):
            eventually(
                target, queue, lambda it: (it.get("length"), it.get("in_flight"), it.get("consumers")) == (3, 2, 1)
            )

        def ours() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
            found = target.collect().samples
            return {
                (it.series.name, frozenset(dict(it.series.labels).items())): it.value
                for it in found
                if it.series.name in _PLUGIN_NAMES
            }

        def theirs() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
            families = exposed(rabbitmq.plugin_metrics())
            assert all(families[name][0] == "gauge" for name in _PLUGIN_NAMES)
            series = {(name, labels): value for name in _PLUGIN_NAMES for labels, value in _series(families[name][1])}
            return {key: value for key, value in series.items() if ("vhost", vhost) in key[1]}

        until(lambda: ours() == theirs() and len(ours()) == 8)


def _series(series: Any) -> list[tuple[frozenset[tuple[str, str]], float]]:
    return [(frozenset(labels), value) for (_, labels), value in series.items()]


def test_counters_count_what_was_published_and_acknowledged(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel, opened(EXPORTER, managed(rabbitmq, vhost)) as target:
        channel.queue_declare("jobs", durable=True)
        new = eventually(target, "jobs", lambda it: "length" in it)
        assert (new["enqueued_total"], new["processed_total"]) == (0, 0)
        for _ in range(4):
            channel.basic_publish("", "jobs", b"{}")
        method, _, _ = channel.basic_get("jobs")
        channel.basic_ack(method.delivery_tag)
        channel.basic_get("jobs", auto_ack=True)
        channel.basic_get("jobs")
        eventually(target, "jobs", lambda it: (it["enqueued_total"], it["processed_total"]) == (4, 2))
        eventually(target, "jobs", lambda it: (it["length"], it["in_flight"], it.get("consumers")) == (1, 1, 0))


def test_over_amqp_only_the_configured_queues_are_read_and_one_that_does_not_exist_is_empty(
    rabbitmq: RabbitmqServer,
) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel:
        for queue in ("a", "c", "unlisted"):
            channel.queue_declare(queue)
            channel.basic_publish("", queue, b"{}")
        with opened(EXPORTER, over_amqp(rabbitmq, vhost, "c", "missing", "b", "a", "none")) as target:
            for queue in ("a", "c"):
                eventually(target, queue, lambda it: it["length"] == 1)
            missing = figures(target, "missing")
            assert (missing["length"], missing["consumers"], missing["oldest_message_age_seconds"]) == (0, 0, 0)
            assert "in_flight" not in missing
            assert queues_in(target) == {"a", "b", "c", "missing", "none"}
            assert target.collect().value("rabbitmq_queue_messages_ready", vhost=vhost, queue="a") == 1
            (finding,) = EXPORTER.check(target.settings)
            assert "a, c; not there yet, reported as empty: b, missing, none" in finding.what
            channel.queue_declare("b")
            channel.basic_publish("", "b", b"{}")
            eventually(target, "b", lambda it: it["length"] == 1)


def test_a_queue_of_another_connection_alone_affects_only_itself(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel:
        channel.queue_declare("a")
        channel.queue_declare("private", exclusive=True)
        with opened(EXPORTER, over_amqp(rabbitmq, vhost, "a", "private", "z")) as target:
            collected = target.collect()
            assert collected.malformed == ["queue private"]
            assert of_queue(collected, "private") == {}
            assert of_queue(collected, "a")["length"] == of_queue(collected, "z")["length"] == 0


def test_more_than_a_thousand_queues_are_read_over_both_protocols(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    names = [f"q{n}" for n in range(1200)]
    with rabbitmq.channel(vhost) as channel:
        for name in names:
            channel.queue_declare(name)
        channel.basic_publish("", "q1199", b"{}")
        settings = {**over_amqp(rabbitmq, vhost, *names), "timeout": 60}
        with opened(EXPORTER, settings) as amqp, opened(EXPORTER, managed(rabbitmq, vhost, timeout=60)) as http:
            for target in (amqp, http):
                eventually(target, "q1199", lambda it: it.get("length") == 1)
                assert queues_in(target) == set(names)
    rabbitmq.api("DELETE", "vhosts", vhost)


def test_dead_letters_count_for_their_queue_and_shared_ones_for_the_dead_letter_queue(
    rabbitmq: RabbitmqServer,
) -> None:
    vhost = rabbitmq.new_vhost()
    direct = {"x-dead-letter-exchange": "failed", "x-dead-letter-routing-key": "mail.failed"}
    with rabbitmq.channel(vhost) as channel:
        channel.exchange_declare("failed", "topic", durable=True)
        for queue in ("mail.dead", "shared.dead", "retry"):
            arguments = {"x-message-ttl": 3_600_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "video"}
            channel.queue_declare(queue, durable=True, arguments=arguments if queue == "retry" else None)
        channel.queue_bind("mail.dead", "failed", "mail.#")
        channel.queue_bind("shared.dead", "failed", "*.lost")
        channel.queue_declare("mail", durable=True, arguments=direct)
        channel.queue_declare(
            "video", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "retry"}
        )
        for queue in ("orders", "invoices"):
            arguments = {"x-dead-letter-exchange": "failed", "x-dead-letter-routing-key": f"{queue}.lost"}
            channel.queue_declare(queue, durable=True, arguments=arguments)
        for queue in ("mail", "mail", "video", "orders", "invoices"):
            channel.basic_publish("", queue, b"{}")
            until(lambda queue=queue: _reject(channel, queue))  # type: ignore[misc]
        with opened(EXPORTER, managed(rabbitmq, vhost)) as target:
            eventually(target, "mail", lambda it: it.get("dead") == 2)
            eventually(target, "shared.dead", lambda it: it.get("dead") == 2)
            video = eventually(target, "video", lambda it: it.get("delayed") == 1)
            assert "dead" not in video
            assert "dead" not in figures(target, "orders")
            assert "dead" not in figures(target, "retry")


def _reject(channel: Any, queue: str) -> bool:
    method, _, _ = channel.basic_get(queue)
    if method is None:
        return False
    channel.basic_reject(method.delivery_tag, requeue=False)
    return True


def test_a_dead_letter_exchange_of_a_policy_is_followed_and_a_missing_one_is_reported(
    rabbitmq: RabbitmqServer,
) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel:
        for queue in ("jobs", "jobs.dead", "other"):
            channel.queue_declare(queue, durable=True)
        channel.exchange_declare("failed", "fanout", durable=True)
        channel.queue_bind("jobs.dead", "failed")
        for name, exchange in (("jobs", "failed"), ("other", "gone")):
            policy = {"pattern": f"^{name}$", "definition": {"dead-letter-exchange": exchange}, "apply-to": "queues"}
            rabbitmq.api("PUT", "policies", vhost, name, body=policy)
        channel.basic_publish("", "jobs.dead", b"{}")
        with opened(EXPORTER, managed(rabbitmq, vhost)) as target:
            until(lambda: of_queue(target.collect(), "jobs").get("dead") == 1)
            collected = target.collect()
            assert collected.malformed == ["the dead letters of queue other"]
            assert of_queue(collected, "other")["length"] == 0

            channel.exchange_declare("new", "direct", durable=True)
            channel.queue_bind("jobs.dead", "new", "late")
            arguments = {"x-dead-letter-exchange": "new", "x-dead-letter-routing-key": "late"}
            channel.queue_declare("late", durable=True, arguments=arguments)
            until(lambda: "length" in of_queue(target.collect(), "late"))
            assert target.collect().malformed == ["the dead letters of queue other"], "a new exchange is known at once"


def test_the_age_is_exact_with_a_timestamp_and_a_lower_bound_without(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel, opened(EXPORTER, managed(rabbitmq, vhost)) as target:
        for queue in ("stamped", "plain"):
            channel.queue_declare(queue, durable=True)
        stamp = pika.BasicProperties(timestamp=int(time.time()) - 600)
        channel.basic_publish("", "stamped", b"{}", stamp)
        exact = eventually(target, "stamped", lambda it: it.get("length") == it.get("oldest_message_age_exact") == 1)
        assert 600 <= exact["oldest_message_age_seconds"] < 900

        for _ in range(3):
            channel.basic_publish("", "plain", b"{}")
        eventually(target, "plain", lambda it: it.get("length") == 3)
        waited = eventually(target, "plain", lambda it: it["oldest_message_age_seconds"] > 0.2)
        assert waited["oldest_message_age_exact"] == 0
        channel.basic_get("plain", auto_ack=True)
        eventually(target, "plain", lambda it: it["length"] == 2)
        assert figures(target, "plain")["oldest_message_age_seconds"] > 0.2, "two of the first three still wait"
        channel.basic_publish("", "plain", b"{}")
        for _ in range(2):
            channel.basic_get("plain", auto_ack=True)
        eventually(target, "plain", lambda it: it["processed_total"] == 3 and it["length"] == 1)
        assert figures(target, "plain")["oldest_message_age_seconds"] < 5 * 60


def test_temporary_queues_are_left_out_unless_the_config_names_them(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel:
        channel.queue_declare("jobs", durable=True)
        channel.queue_declare("", exclusive=True)
        channel.queue_declare("replies", auto_delete=True)
        with opened(EXPORTER, managed(rabbitmq, vhost)) as target:
            until(lambda: "jobs" in queues_in(target))
            assert queues_in(target) == {"jobs"}
        with opened(EXPORTER, managed(rabbitmq, vhost, queues=["replies"], discover=False)) as target:
            assert queues_in(target) <= {"replies"}
            until(lambda: queues_in(target) == {"replies"})


def test_without_discovery_the_dead_letters_of_the_named_queues_are_still_counted(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "jobs.dead"}
    with rabbitmq.channel(vhost) as channel:
        channel.queue_declare("jobs", durable=True, arguments=arguments)
        channel.queue_declare("jobs.dead", durable=True)
        channel.basic_publish("", "jobs.dead", b"{}")
        with opened(EXPORTER, managed(rabbitmq, vhost, queues=["jobs"], discover=False)) as target:
            eventually(target, "jobs", lambda it: it.get("dead") == 1)
            assert queues_in(target) == {"jobs"}


def test_all_metrics_of_a_running_agent_are_declared(rabbitmq: RabbitmqServer, tmp_path: Path) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel:
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "celery.dead"}
        channel.queue_declare("celery", durable=True, arguments=arguments)
        channel.queue_declare("celery.dead", durable=True)
        channel.queue_declare("celery_delayed_0", durable=True)
    config = (
        "interval: 1s\nexporters:\n  queues:\n"
        f"    - {{name: amqp, kind: celery, url: '{rabbitmq.url(vhost)}'}}\n"
        f"    - {{name: http, kind: rabbitmq, url: '{rabbitmq.url(vhost)}',"
        f" management_url: '{rabbitmq.management_url}'}}\n"
    )
    wanted = (
        'queue_dead{target="http"',
        'celery_delayed_messages{target="amqp"',
        'rabbitmq_queue_messages{target="http"',
        'rabbitmq_queue_consumers{target="http"',
    )
    with agent(tmp_path, config) as running:
        until(lambda: all(it in running.metrics() for it in wanted))
        text = running.metrics()
    all_of = families(text, "queue_") | families(text, "celery_") | families(text, "rabbitmq_")
    found = {name: (kind, labels - {"target"}) for name, (kind, labels) in all_of.items()}
    assert not undeclared(found)
    assert_golden("queues_rabbitmq", found)


def test_the_broker_url_of_celery_in_the_environment_is_enough_without_a_config(
    rabbitmq: RabbitmqServer, tmp_path: Path
) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel:
        channel.queue_declare("celery", durable=True)
        channel.basic_publish("", "celery", b"{}")
    with agent(tmp_path, CELERY_BROKER_URL=rabbitmq.url(vhost)) as running:
        series = 'queue_length{target="queues",queue="celery",kind="celery"} 1'
        until(lambda: series in running.metrics(), what=series)
