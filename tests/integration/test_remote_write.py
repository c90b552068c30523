"""Remote write to real receivers: what arrives, and what happens when they or the agent stop."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cramjam
import pytest

from databases import redis_server
from deckwatch.collection.registry import Registry
from deckwatch.config import ConfigError, load_config
from receivers import RECEIVERS, config, own, query, receiver, times, writing
from services import deckwatch_command, fetch, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("kind", RECEIVERS)
def test_everything_that_a_scrape_reads_arrives_with_job_and_instance(kind: str, tmp_path: Path) -> None:
    with (
        receiver(kind, tmp_path / "receiver") as store,
        redis_server(tmp_path) as redis,
        writing(
            tmp_path, config(store.url, f'{{system: {{}}, redis: [{{name: cache, url: "{redis.url}"}}]}}')
        ) as program,
    ):
        until(lambda: query(store, 'redis_up{job="deckwatch",instance="shop",target="cache"} == 1'), what="redis_up")
        lines = fetch(program.url + "/metrics")[1].splitlines()
        expected = {line.partition("{")[0].partition(" ")[0] for line in lines if line and not line.startswith("#")}

        def arrived() -> set[str]:
            return {it["metric"]["__name__"] for it in query(store, '{instance="shop"}')}

        until(lambda: expected <= arrived(), what="all metrics")
        count = len(query(store, 'node_cpu_seconds_total{instance="shop"}'))
        assert {"up", "scrape_duration_seconds", "scrape_samples_scraped"} <= arrived()
        assert count == sum(line.startswith("node_cpu_seconds_total{") for line in lines)


@pytest.mark.parametrize("kind", RECEIVERS)
def test_an_outage_and_a_killed_agent_lose_nothing_and_send_nothing_out_of_order(kind: str, tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "receiver"
    text = config(f"http://127.0.0.1:{port}")
    with receiver(kind, folder, port) as store, writing(tmp_path, text) as program:
        until(lambda: own(program, "samples_sent_total") > 0, what="samples")
        before = until(lambda: times(store), what="samples that can be queried")
        store.process.terminate()
        store.process.wait()
        until(lambda: own(program, "failures_total") > 0, what="the outage being noticed")
        until(lambda: own(program, "lag_seconds") > 2, what="samples waiting")
        program.process.send_signal(signal.SIGKILL)
        program.process.wait()
        killed = time.time()
    with receiver(kind, folder, port) as store, writing(tmp_path, text) as program:
        started = time.time()
        until(lambda: own(program, "pending_bytes") == 0 and own(program, "lag_seconds") == 0, what="the queue")
        until(lambda: [it for it in times(store) if it > started], what="new samples")
        found = times(store)
        assert own(program, "samples_dropped_total") == 0
    # One sample each half second while the agent ran, none twice, and in order.
    ran = [it for it in found if it < killed]
    assert ran == sorted(set(ran))
    assert max(after - at for at, after in itertools.pairwise(ran)) < 5, "no gap, even on a busy machine"
    assert min(ran) <= min(before)


def test_series_that_vanish_and_those_of_an_agent_that_stops_end_at_once(tmp_path: Path) -> None:
    with receiver("prometheus", tmp_path / "receiver") as store, redis_server(tmp_path) as redis:
        text = config(store.url, f'{{redis: [{{name: cache, url: "{redis.url}"}}]}}')
        with writing(tmp_path, text) as program:
            until(lambda: query(store, "redis_up"), what="redis_up")
            (tmp_path / "deckwatch.yml").write_text(config(store.url, "{system: {disable: [arp]}}"))
            program.process.send_signal(signal.SIGHUP)
            until(lambda: not query(store, "redis_up"), what="the end of the series")
            assert query(store, "up")
        assert query(store, '{instance="shop"}') == []


def test_a_reload_changes_labels_and_ends_the_old_series(tmp_path: Path) -> None:
    with receiver("prometheus", tmp_path / "receiver") as store, writing(tmp_path, config(store.url)) as program:
        until(lambda: query(store, 'up{instance="shop"}'), what="up")
        (tmp_path / "deckwatch.yml").write_text(config(store.url, instance="other", job="node"))
        program.process.send_signal(signal.SIGHUP)
        until(lambda: query(store, 'up{instance="other",job="node"}'), what="the new labels")
        until(lambda: not query(store, 'up{instance="shop"}'), what="the end of the old series")


# A receiver with configurable answers


@dataclass
class Double:
    """Answers with the next of `answers`: status, headers and text; then with 204. Keeps the requests."""

    url: str
    answers: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextlib.contextmanager
def double() -> Iterator[Double]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answering.requests.append((dict(self.headers), body))
            status, headers, text = answering.answers.pop(0) if answering.answers else (204, {}, "")
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        answering = Double(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield answering
        finally:
            server.shutdown()


@pytest.mark.parametrize(("status", "headers", "text", "says"), [
    (500, {}, "broken", "status 500: broken"),
    (401, {}, "no", "Check username, password or bearer_token"),
    (404, {}, "", "--web.enable-remote-write-receiver"),
    (415, {}, "", "set protocol to 1.0 or 2.0"),
    (200, {"Content-Type": "text/html"}, "<html>login</html>", "a portal or a proxy answers there"),
    (429, {"Retry-After": "1"}, "slow down", "slow down"),
])  # fmt: skip
def test_what_may_succeed_later_is_sent_again_and_the_reason_is_shown(
    tmp_path: Path, status: int, headers: dict[str, str], text: str, says: str
) -> None:
    with double() as receiving:
        receiving.answers = [(status, headers, text)] * 2
        with writing(tmp_path, config(receiving.url, password="SECRET", username="me")) as program:
            until(lambda: len(receiving.requests) >= 4, what="requests after the failures")
            log = until(lambda: program.printed if "remote_write.recovered" in program.printed else "", what="recovery")
            assert says in log
            assert "SECRET" not in log
            assert own(program, "failures_total") >= 2
            assert own(program, "samples_dropped_total") == 0
        first, second, third = (body for _, body in receiving.requests[:3])
        assert first == second == third, "the same request until it is stored"


def test_a_refused_request_is_counted_logged_and_not_repeated(tmp_path: Path) -> None:
    with double() as receiving:
        receiving.answers = [(400, {}, "out of order sample")]
        with writing(tmp_path, config(receiving.url)) as program:
            until(lambda: len(receiving.requests) >= 3, what="further requests")
            until(lambda: own(program, "samples_dropped_total") > 0, what="the count")
            assert "out of order sample" in program.printed
        assert receiving.requests[0][1] != receiving.requests[1][1]


def test_a_receiver_that_fails_is_on_the_page_in_health_and_in_check(tmp_path: Path) -> None:
    with writing(tmp_path, config(f"http://127.0.0.1:{free_port()}", name="central")) as program:

        def failing() -> list[dict[str, Any]]:
            detailed = json.loads(fetch(program.url + "/health/detailed")[1])
            return [it for it in detailed["remote_write"] if it["state"] == "failing"]

        (shown,) = until(failing, what="the failure")
        assert (shown["name"], shown["error"]) == ("central", "Connection refused")
        assert "Receiver central" in fetch(program.url + "/")[1]
        assert "remote_write to central" in fetch(program.url + "/health")[1]
    done = subprocess.run(
        deckwatch_command("check", "--state-dir", str(tmp_path / "state")),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("remote_write")]
    assert "failed" in line
    assert "Connection refused" in line
    assert done.returncode == 2


def test_a_new_password_in_its_file_is_used(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("old")
    with double() as receiving:
        receiving.answers = [(401, {}, "")] * 3
        with writing(tmp_path, config(receiving.url, username="me", password_file=str(secret))):
            until(lambda: receiving.requests, what="a request")
            secret.write_text("new")
            until(lambda: len({headers["Authorization"] for headers, _ in receiving.requests}) == 2, what="it")


def test_version_2_has_a_table_of_symbols_and_the_same_samples(tmp_path: Path) -> None:
    with double() as receiving:
        with writing(tmp_path, config(receiving.url, protocol="2.0")):
            until(lambda: len(receiving.requests) >= 2, what="requests")
        headers, body = receiving.requests[1]
    assert headers["Content-Type"] == "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    assert headers["X-Prometheus-Remote-Write-Version"] == "2.0.0"
    message = fields(bytes(cramjam.snappy.decompress_raw(body)))
    symbols = [value.decode() for number, value in message if number == 4]
    assert symbols[0] == ""
    series = [dict(fields(value)) for number, value in message if number == 5]
    labels = [[symbols[it] for it in varints(one[1])] for one in series]
    assert ["__name__", "up", "instance", "shop", "job", "deckwatch"] in labels
    assert all(one[::2] == sorted(one[::2]) for one in labels), "labels are sorted by name"
    assert len({tuple(one) for one in labels}) == len(labels)
    metadata = [dict(fields(one[5])) for one in series]
    assert {it[1] for it in metadata} >= {1, 2}, "counters and gauges"


def varints(data: bytes) -> list[int]:
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(value)
            value, shift = 0, 0
    return found


def fields(message: bytes) -> list[tuple[int, Any]]:
    """The fields of a protobuf message: number and value; texts and messages as bytes."""
    found: list[tuple[int, Any]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        end = at
        while message[end] > 127:
            end += 1
        (value,) = varints(message[at : end + 1])
        at = end + 1
        return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            found.append((number, varint()))
        elif kind == 1:
            found.append((number, message[at : at + 8]))
            at += 8
        else:
            length = varint()
            found.append((number, message[at : at + length]))
            at += length
    return found


@pytest.mark.parametrize(("settings", "says"), [
    ({"url": "metrics.example"}, "http"),
    ({"url": "http://u:SECRET@h/write", "bearer_token": "SECRET"}, "only one of"),
    ({"url": "http://h/write", "bearer_token": "SECRET\nX: y"}, "printable ASCII"),
    ({"url": "http://h/write", "labels": {"job": "x"}}, "other than job and instance"),
    ({"url": "http://h/write", "protocol": "3.0"}, "2.0"),
    ({"url": "http://h/write", "queue": {"max_bytes": "1KB"}}, "at least 1MiB"),
    ({"url": "http://h/write", "headers": {"Content-Type": "SECRET"}}, "headers other than"),
])  # fmt: skip
def test_a_wrong_setting_is_refused_without_quoting_secrets(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    file = tmp_path / "deckwatch.yml"
    file.write_text(json.dumps({"remote_write": [settings]}))
    with pytest.raises(ConfigError) as refused:
        load_config(file, {}, Registry.installed())

    assert says in str(refused.value)
    assert "SECRET" not in str(refused.value)


def test_two_receivers_need_different_names(tmp_path: Path) -> None:
    file = tmp_path / "deckwatch.yml"
    file.write_text(json.dumps({"remote_write": [{"url": "http://h/a"}, {"url": "http://h/b"}]}))
    with pytest.raises(ConfigError, match="a different name for each: 'h' is there twice"):
        load_config(file, {}, Registry.installed())
