"""The HTTP application: its routes and the headers of every response."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import threading
from typing import TYPE_CHECKING

import httpx
import orjson
import pytest

from deckwatch.collection.board import Selection
from deckwatch.collection.status import HostStatus, State
from deckwatch.exporter import Incomplete
from deckwatch.status_page.page import CONTENT_SECURITY_POLICY, status_page

from .serving import SHORT, FakeWatch, Server, collector, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def watch() -> FakeWatch:
    return FakeWatch(b'up{a="b"} 1\n' * 100)


@pytest.fixture
def client(watch: FakeWatch) -> Iterator[httpx.Client]:
    with serving(watch) as server, server.client() as client:
        yield client


PATHS = (
    "/metrics",
    "/sd",
    "/health",
    "/health/liveness",
    "/health/readiness",
    "/health/detailed",
    "/health/dependencies",
    "/-/healthy",
    "/-/ready",
    "/api/v1/status",
    "/",
)


@pytest.mark.parametrize("path", PATHS)
def test_every_page_supports_get_and_head_with_the_security_headers(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert got.status_code == head.status_code == 200
    assert got.content
    assert not head.content
    for answer in (got, head):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        assert answer.headers["date"].endswith("GMT")
    assert got.headers["content-length"] == head.headers["content-length"]


def test_metrics_returns_the_agents_exposition_for_the_request(client: httpx.Client, watch: FakeWatch) -> None:
    answer = client.get(
        "/metrics?collect[]=cpu&collect%5B%5D=load&target=cache",
        headers={"accept": "text/plain", "user-agent": "Prometheus/3", "accept-encoding": "gzip"},
    )
    assert answer.content == watch.body
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert watch.asked == [(Selection(("cpu", "load"), "cache"), False, True, "127.0.0.1 Prometheus/3")]


def test_a_scrape_without_gzip_is_not_compressed(client: httpx.Client, watch: FakeWatch) -> None:
    answer = client.get("/metrics", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.content == watch.body
    assert watch.asked[0][:3] == (Selection(), False, False)


def test_repeated_accept_headers_are_combined(client: httpx.Client, watch: FakeWatch) -> None:
    openmetrics = "application/openmetrics-text;version=1.0.0"
    answer = client.get("/metrics", headers=[("accept", "text/plain;q=0.5"), ("accept", openmetrics)])
    assert watch.asked[0][1]
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")


@pytest.mark.parametrize("size", [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 512 * 1024, 3_000_001])
def test_an_exposition_of_any_size_arrives_complete(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with serving(FakeWatch(body)) as server, server.client() as client:
        for _ in range(2):  # the connection can be reused
            assert client.get("/metrics", headers={"accept-encoding": "identity"}).content == body


def test_an_unknown_target_is_rejected_in_one_line(client: httpx.Client) -> None:
    answer = client.get("/metrics?target=nobody")
    assert (answer.status_code, answer.text) == (400, "unknown target 'nobody'\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_rejected_with_the_allowed_ones(client: httpx.Client, method: str) -> None:
    for path in ("/metrics", "/health"):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert {name.strip() for name in answer.headers["allow"].split(",")} == {"GET", "HEAD"}
        assert answer.text.count("\n") == 1
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/nothing", "/health/", "/metrics/", "/../etc/passwd", "/%00"])
def test_unknown_paths_return_404_in_one_line_and_never_redirect(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.text == "not found; see / for a list of pages\n"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_sd_returns_a_separate_instance_for_each_named_target(client: httpx.Client) -> None:
    address = str(client.base_url).removeprefix("http://").rstrip("/")
    assert client.get("/sd").headers["content-type"] == "application/json"
    assert client.get("/sd").json() == [
        {
            "targets": [address],
            "labels": {"__metrics_path__": "/metrics", "exporter": "deckwatch", "__param_target": "-"},
        },
        *(
            {
                "targets": [address],
                "labels": {
                    "__metrics_path__": "/metrics",
                    "__param_target": name,
                    "instance": name,
                    "exporter": exporter,
                },
            }
            for exporter, name in (("redis", "cache"), ("postgres", "main"))
        ),
    ]


def test_sd_returns_the_advertised_address_for_any_host_header() -> None:
    with serving(FakeWatch(), advertise="host.example:9797") as server, server.client() as client:
        groups = client.get("/sd", headers={"host": "elsewhere.example"}).json()
    assert {target for group in groups for target in group["targets"]} == {"host.example:9797"}


def test_health_is_503_until_the_first_collection_is_complete(client: httpx.Client, watch: FakeWatch) -> None:
    watch.is_ready = False
    assert (client.get("/health").status_code, client.get("/health").json()["status"]) == (503, "starting")
    assert client.get("/health/readiness").status_code == client.get("/-/ready").status_code == 503
    assert client.get("/health/liveness").status_code == client.get("/-/healthy").status_code == 200
    watch.is_ready = True
    assert (client.get("/health").status_code, client.get("/health").json()) == (200, {"status": "ok", "failing": []})
    assert client.get("/health/readiness").status_code == client.get("/-/ready").status_code == 200


@pytest.mark.parametrize("state", ["failing", "hung"])
def test_a_down_target_degrades_health_without_failing_it(client: httpx.Client, watch: FakeWatch, state: State) -> None:
    watch.collectors.append(collector("postgres.database", "main", state, "refused"))
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "degraded", "failing": ["postgres.database"]})


def test_health_fails_if_the_agent_cannot_monitor_itself(client: httpx.Client, watch: FakeWatch) -> None:
    watch.collectors[0] = collector("deckwatch.agent", "", "hung")
    answer = client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "failing")


def test_detailed_health_lists_each_target_with_the_worst_state_of_its_collectors(
    client: httpx.Client, watch: FakeWatch
) -> None:
    watch.collectors.append(collector("redis.clients", "cache", "failing", "timed out"))
    detailed = client.get("/health/detailed").json()
    assert detailed["host"] == {"cpu_ratio": 0.25, "memory_ratio": 0.5, "disk_ratio": None}
    by_name = {(target["exporter"], target["target"]): target for target in detailed["targets"]}
    assert by_name["redis", "cache"]["state"] == "failing"
    assert by_name["redis", "cache"]["errors"] == {"redis.clients": "timed out"}
    assert by_name["system", ""]["state"] == "ok"
    assert [target["target"] for target in client.get("/health/dependencies").json()] == ["cache"]


def test_what_a_working_target_lacks_is_in_the_health_endpoint_and_in_the_status_api(
    client: httpx.Client, watch: FakeWatch
) -> None:
    lack = Incomplete("the server refuses CONFIG GET", "ACL SETUSER monitor +config|get")
    watch.collectors.append(dataclasses.replace(collector("redis.config", "cache"), lacks=(lack,)))
    target = next(it for it in client.get("/health/detailed").json()["targets"] if it["target"] == "cache")
    assert (target["state"], target["lacks"]) == ("ok", ["the server refuses CONFIG GET"])
    assert target["remedies"] == ["ACL SETUSER monitor +config|get"]
    (found,) = (it for it in client.get("/api/v1/status").json()["collectors"] if it["lacks"])
    assert found["lacks"] == [{"what": lack.what, "remedy": lack.remedy}]


def test_the_status_api_returns_the_agents_status(client: httpx.Client, watch: FakeWatch) -> None:
    assert client.get("/api/v1/status").json() == orjson.loads(orjson.dumps(watch.status()))


def test_reload_is_refused_unless_the_lifecycle_is_enabled(client: httpx.Client, watch: FakeWatch) -> None:
    answer = client.post("/-/reload")
    assert answer.status_code == 403
    assert "enable_lifecycle" in answer.text
    assert answer.text.count("\n") == 1
    assert client.get("/-/reload").status_code == 405
    assert watch.reloads == 0


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_enabled_reload_reloads_and_returns_errors(watch: FakeWatch, method: str) -> None:
    with serving(watch, lifecycle=True) as server, server.client() as client:
        assert client.request(method, "/-/reload").status_code == 200
        watch.wrong = "deckwatch.yml:3: listn: unknown key"
        answer = client.request(method, "/-/reload")
        assert (answer.status_code, answer.text) == (500, "deckwatch.yml:3: listn: unknown key\n")
    assert watch.reloads == 2


def test_a_slow_reload_does_not_block_scrapes(watch: FakeWatch) -> None:
    watch.reload_gate = threading.Event()
    answers: list[int] = []

    def reload(server: Server) -> None:
        with server.client() as client:
            answers.append(client.post("/-/reload").status_code)

    with serving(watch, lifecycle=True) as server, server.client() as client:
        reloading = threading.Thread(target=reload, args=(server,))
        reloading.start()
        try:
            for _ in range(20):
                assert client.get("/metrics").status_code == 200
            assert answers == []
        finally:
            watch.reload_gate.set()
            reloading.join(60)
    assert answers == [200]


def test_an_internal_error_returns_500_and_the_next_request_succeeds(
    watch: FakeWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[tuple[str, str]]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(watch, "targets", broken)
    with serving(watch) as server:
        with server.client() as client:
            answer = client.get("/sd")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        with server.client() as client:
            assert client.get("/metrics").status_code == 200


def test_the_page_shows_every_collector_and_escapes_untrusted_text(watch: FakeWatch) -> None:
    evil = "<script>alert('1')</script>\"&"
    watch.collectors = [
        collector("redis.server", evil, "failing", evil),
        collector("system", "", "pending"),
        collector(f"x.{evil}", "", "hung", evil),
    ]
    with serving(watch, limits=SHORT) as server, server.client() as client:
        page = client.get("/").text
    assert page.count("<script") == 1  # the page's own
    assert "alert('1')" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "2 of 3 targets are down" in page
    assert "12.3 ms" in page
    assert "2023-11-14T22:13:20Z" in page
    for path in ("/metrics", "/sd", "/health/detailed", "/health/dependencies", "/api/v1/status"):
        assert f'href="{path}"' in page


def test_the_page_loads_nothing_external_and_its_policy_allows_only_its_own_style_and_script(
    client: httpx.Client,
) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy == CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in policy
    for element in ("style", "script"):
        text = re.search(rf"<{element}>(.*?)</{element}>", answer.text, re.DOTALL)
        assert text is not None
        digest = base64.b64encode(hashlib.sha256(text.group(1).encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert "style=" not in answer.text
    assert not re.search(r"""src=|<link(?! rel="icon" href="data:,">)|@import|url\(""", answer.text)
    assert 'name="viewport"' in answer.text
    assert "prefers-color-scheme: dark" in answer.text


def test_the_page_works_before_the_first_collection() -> None:
    watch = FakeWatch()
    watch.collectors = []
    status = dataclasses.replace(watch.status(), config=None, host=HostStatus())
    page = status_page(status)
    assert "none, the defaults" in page
    assert "None" not in page
