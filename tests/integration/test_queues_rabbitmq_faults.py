"""A RabbitMQ that is down, hung or restarted, refuses the user, or is something else."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from databases import redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from deckwatch_exporters.queues.celery_rabbitmq import CeleryRabbitmqSettings
from exporters.queues.support import eventually, figures, of_queue
from rabbitmq_server import PASSWORD
from services import agent, fetch, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rabbitmq_server import RabbitmqServer


def over_amqp(url: str, **further: Any) -> dict[str, Any]:
    return {"kind": "rabbitmq", "url": url, "queues": ["jobs"], **further}


def error_of(settings: dict[str, Any]) -> str:
    """Return the error of a run; `check` must not fail on top of it."""
    with opened(EXPORTER, {"timeout": 3, **settings}) as target:
        collected = target.collect()
        assert not of_queue(collected, "jobs")
        assert not list(EXPORTER.check(target.settings))
        return collected.errors["queues"]


def test_a_hung_broker_never_blocks_metrics_and_is_read_again_once_it_answers(
    rabbitmq: RabbitmqServer, tmp_path: Path
) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel:
        channel.queue_declare("jobs", durable=True)
        channel.basic_publish("", "jobs", b"{}")
    config = (
        "interval: 1s\nexporters:\n  queues:\n"
        f"    - {{name: amqp, kind: rabbitmq, url: '{rabbitmq.url(vhost)}', queues: [jobs], timeout: 1s}}\n"
        f"    - {{name: http, kind: rabbitmq, url: '{rabbitmq.url(vhost)}',"
        f" management_url: '{rabbitmq.management_url}', timeout: 1s}}\n"
    )
    with agent(tmp_path, config) as running:

        def all_up(value: int) -> bool:
            text = running.metrics()
            return all(f'queue_up{{target="{target}"}} {value}' in text for target in ("amqp", "http"))

        def all_counted() -> bool:
            text = running.metrics()
            return all(
                f'queue_length{{target="{it}",queue="jobs",kind="rabbitmq"}} 1' in text for it in ("amqp", "http")
            )

        until(lambda: all_up(1) and all_counted())
        rabbitmq.freeze()
        try:
            until(lambda: all_up(0))
            assert "queue_length" not in running.metrics(), "old values are never served as current"
            assert fetch(running.url + "/-/healthy")[0] == 200
        finally:
            rabbitmq.thaw()
        until(lambda: all_up(1) and all_counted())
        assert "guest:guest" not in running.printed


def test_a_connection_that_the_broker_closes_between_runs_is_opened_again_within_the_run(
    rabbitmq: RabbitmqServer,
) -> None:
    vhost = rabbitmq.new_vhost()

    def ours() -> list[str]:
        found = rabbitmq.api("GET", "connections")
        return [
            it["name"] for it in found if it["vhost"] == vhost and it["client_properties"]["product"] == "deckwatch"
        ]

    with opened(EXPORTER, over_amqp(rabbitmq.url(vhost))) as target:
        assert figures(target, "jobs")["length"] == 0
        (before,) = until(ours)
        rabbitmq.api("DELETE", "connections", before)
        assert figures(target, "jobs")["length"] == 0
        assert len(until(lambda: set(ours()) - {before})) == 1


def test_a_wrong_password_or_virtual_host_and_missing_permissions_are_explained(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    url = rabbitmq.management_url
    plain, stranger = rabbitmq.add_user(vhost), rabbitmq.add_user(vhost, "management", may_access=False)
    for further in ({}, {"management_url": url}):
        wrong = error_of(over_amqp(rabbitmq.url(vhost, plain, "s3cret-typo"), **further))
        assert f"wrong user or password of {plain}. Check username and password_file" in wrong
        nowhere = error_of(over_amqp(rabbitmq.url("nowhere"), **further))
        assert "no virtual host 'nowhere'. Check the virtual host in url" in nowhere
        refused = error_of(over_amqp(rabbitmq.url(vhost, stranger, PASSWORD), **further))
        assert f"rabbitmqctl set_permissions -p {vhost} {stranger} '^$' '^$' '^$'" in refused
        assert not {"s3cret-typo", PASSWORD} & set(" ".join((wrong, nowhere, refused)).split())
    no_tag = error_of(over_amqp(rabbitmq.url(vhost, plain, PASSWORD), management_url=url))
    assert f"rabbitmqctl set_user_tags {plain} management" in no_tag


def test_a_user_without_any_right_in_the_virtual_host_can_read_everything(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    with rabbitmq.channel(vhost) as channel:
        channel.queue_declare("jobs", durable=True, arguments={"x-dead-letter-exchange": "failed"})
        channel.queue_declare("jobs.dead", durable=True)
        channel.exchange_declare("failed", "fanout", durable=True)
        channel.queue_bind("jobs.dead", "failed")
    url = rabbitmq.url(vhost, rabbitmq.add_user(vhost, "management"), PASSWORD)
    with opened(EXPORTER, over_amqp(url)) as target:
        assert figures(target, "jobs")["length"] == 0
    with opened(EXPORTER, over_amqp(url, management_url=rabbitmq.management_url)) as target:
        eventually(target, "jobs", lambda it: (it.get("length"), it.get("dead")) == (0, 0))


def test_a_server_of_another_kind_is_named_as_such(rabbitmq: RabbitmqServer, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        url = redis.url.replace("redis://", "amqp://")
        assert "host and port in url are not RabbitMQ's" in error_of(over_amqp(url, timeout=0.5))
    web = f"amqp://127.0.0.1:{rabbitmq.management_port}"
    assert "host and port in url are not RabbitMQ's" in error_of(over_amqp(web, timeout=0.5))
    as_redis = {"kind": "celery", "url": f"redis://127.0.0.1:{rabbitmq.port}/0", "queues": ["jobs"]}
    assert "not the Redis protocol" in error_of(as_redis)
    for port in (rabbitmq.port, rabbitmq.prometheus_port):
        wrong = error_of({"kind": "rabbitmq", "management_url": f"http://127.0.0.1:{port}"})
        assert "Check management_url, which must be the management API of RabbitMQ" in wrong
    assert "does not speak TLS" in error_of(over_amqp(rabbitmq.url("/").replace("amqp://", "amqps://")))


def test_tls_verifies_the_server_and_names_the_setting_to_check(rabbitmq: RabbitmqServer) -> None:
    vhost = rabbitmq.new_vhost()
    url = f"amqps://guest:guest@127.0.0.1:{rabbitmq.tls_port}/{vhost}"
    assert "Check tls.ca_file" in error_of(over_amqp(url))
    with opened(EXPORTER, over_amqp(url, tls={"ca_file": rabbitmq.ca_file})) as target:
        assert figures(target, "jobs")["length"] == 0


def test_nobody_listening_is_unreachable() -> None:
    assert "Connection refused" in error_of(over_amqp(f"amqp://127.0.0.1:{free_port()}"))
    nobody = {"kind": "rabbitmq", "management_url": f"http://127.0.0.1:{free_port()}"}
    assert "Connection refused" in error_of(nobody)


def test_a_missing_client_library_is_reported_with_the_install_command() -> None:
    code = (
        "import sys; sys.modules['pamqp'] = None\n"
        "from deckwatch.testing import opened\n"
        "from deckwatch_exporters.queues import EXPORTER\n"
        "assert 'h11' not in sys.modules\n"
        "with opened(EXPORTER, {'kind': 'celery', 'url': sys.argv[1]}) as target: print(target.collect().errors)"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"amqp://127.0.0.1:{listener.getsockname()[1]}"
        done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, timeout=120)
    assert "pip install 'deckwatch[rabbitmq]'" in done.stdout, done.stderr


@contextmanager
def web_server(status: int, body: bytes, kind: str) -> Iterator[str]:
    """Run a web server with one answer to everything. Yield its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (200, b"<html>Log in</html>", "text/html; charset=utf-8", "HTTP 200 with text/html instead of JSON"),
        (302, b"", "text/html", "HTTP 302 with text/html instead of JSON"),
        (200, b'{"items": 1', "application/json", "instead of JSON"),
        (200, b'{"data": []}', "application/json", "is not a page of queues"),
        (200, b"[]", "application/json", "is not a page of queues"),
        (403, b'{"error": "access_refused", "reason": "no"}', "application/json", "set_user_tags guest monitoring"),
        (404, b'{"error": "Object Not Found"}', "application/json", "no management API there"),
        (503, b'{"error": "starting"}', "application/json", "HTTP 503 (starting)"),
    ],
)
def test_a_management_api_that_answers_wrongly_is_explained(status: int, body: bytes, kind: str, told: str) -> None:
    with web_server(status, body, kind) as url:
        assert told in error_of({"kind": "rabbitmq", "management_url": url})


def test_odd_queues_of_the_management_api_cost_only_themselves() -> None:
    page = (
        b'{"page_count": "many", "items": [7, {"name": 1}, {"name": "jobs", "messages_ready": "x", "consumers": 2},'
        b' {"name": "mail", "messages_ready": 3, "message_stats": [], "arguments": [7],'
        b' "effective_policy_definition": 1}]}'
    )
    with (
        web_server(200, page, "application/json") as url,
        opened(EXPORTER, {"kind": "rabbitmq", "management_url": url}) as target,
    ):
        collected = target.collect()
        assert collected.malformed == ["GET /api/queues", "GET /api/queues"]
        assert of_queue(collected, "jobs") == {"consumers": 2}
        assert of_queue(collected, "mail")["length"] == 3


@pytest.mark.parametrize(
    ("greeting", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak AMQP 0-9-1"),
        (b"AMQP\x00\x01\x00\x00", "another version of AMQP"),
        (b"\x01\x00\x00\xff\xff\xff\xff" + b"x" * 100, "does not speak AMQP 0-9-1"),
        (b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce", "does not speak AMQP 0-9-1"),
        (b"\x08\x00\x00\x00\x00\x00\x00\xce" * 3, "closed the connection"),
        (b"", "closed the connection"),
    ],
)
def test_a_garbled_greeting_is_explained(greeting: bytes, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):  # a run, and a check
                connected, _ = listener.accept()
                with connected:
                    connected.sendall(greeting)
                    connected.shutdown(socket.SHUT_WR)
                    while connected.recv(4096):
                        pass

        threading.Thread(target=answer, daemon=True).start()
        assert told in error_of(over_amqp(f"amqp://127.0.0.1:{listener.getsockname()[1]}"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "url .amqp://host., management_url"),
        ({"url": "amqp://h"}, "queues .their names., or management_url"),
        ({"url": "redis://h"}, "amqp://.user:password@.host"),
        ({"url": "amqp://u:p/w@h/x"}, "%23, %2F, %3F and %40"),
        ({"url": "amqp://a,b", "queues": ["q"]}, "one host"),
        ({"url": "amqp://h:0", "queues": ["q"]}, "a port between 1 and 65535"),
        ({"url": "amqp://h", "queues": ["q" * 256]}, "names of 1 to 255 bytes"),
        ({"url": "amqp://u:p@h", "password": "p", "queues": ["q"]}, "only one of"),
        ({"management_url": "h:15672"}, "a URL such as"),
        ({"management_url": "http://h", "discover": False}, "queues, or discover: true"),
    ],
)
def test_invalid_settings_are_explained(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EXPORTER.settings.model_validate({"kind": "rabbitmq", **settings})


@pytest.mark.parametrize(
    ("url", "vhost", "credentials"),
    [
        ("amqp://h", "/", ("guest", "guest")),
        ("amqp://h/", "/", ("guest", "guest")),
        ("pyamqp://u:p%40@h:1//", "/", ("u", "p@")),
        ("amqp://u:p@h/%2F", "/", ("u", "p")),
        ("amqps://u:p@[::1]/shop?heartbeat=5", "shop", ("u", "p")),
    ],
)
def test_urls_are_read_as_celery_and_pika_read_them(url: str, vhost: str, credentials: tuple[str, str]) -> None:
    settings = CeleryRabbitmqSettings.model_validate({"kind": "celery", "url": url})
    assert (settings.virtual_host, settings.credentials) == (vhost, credentials)
