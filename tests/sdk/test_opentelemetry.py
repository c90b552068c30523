"""`deckwatch.instrument()` with OpenTelemetry's real instrumentations, a real Redis and a real PostgreSQL."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from databases import postgres_server, redis_server
from sdk.dependency_apps import IS_INSTALLED, MISSING, DependencyApp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from databases import PostgresServer, RedisServer
    from deckwatch.testing import Collected

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason=MISSING)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Receiver:
    """An HTTP server that keeps what it is sent: a receiver of traces, and a server to call."""

    def __init__(self) -> None:
        received: list[tuple[str, bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(200)

            def do_GET(self) -> None:
                self._answer(503 if "broken" in self.path else 200)

            def _answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def count(collected: Collected, metric: str, **labels: str) -> float:
    """The number of observations in all series with these labels."""
    return sum(
        sample.value
        for sample in collected.samples
        if sample.series.name == f"{metric}_count" and labels.items() <= dict(sample.series.labels).items()
    )


DB, CACHE, HTTP = (
    "db_client_operation_duration_seconds",
    "cache_operation_duration_seconds",
    "http_client_request_duration_seconds",
)

CALLS = """
import redis, psycopg, requests, httpx
cache = redis.Redis(port=SERVER["port"])
cache.set("a", 1)
cache.get("a")
cache.pipeline().get("a").get("b").execute()
with psycopg.connect(SERVER["dsn"]) as connection:
    connection.execute("/* comment */ select 1")
    try:
        connection.execute("SELECT missing")
    except psycopg.Error:
        pass
requests.get(SERVER["url"] + "/a")
httpx.get(SERVER["url"] + "/broken?page=1")
try:
    requests.get("http://127.0.0.1:1/")
except requests.ConnectionError:
    pass
"""


def check_calls(collected: Collected) -> None:
    assert count(collected, CACHE, cache="redis", operation="set") == 1
    assert count(collected, CACHE, cache="redis", operation="get") == 1
    assert count(collected, CACHE, cache="redis", operation="pipeline") == 1
    assert count(collected, DB, db_system_name="postgresql", db_operation_name="SELECT") == 2
    assert count(collected, DB, db_operation_name="SELECT", error_type="UndefinedColumn") == 1
    assert count(collected, HTTP, http_request_method="GET", http_response_status_code="200") == 1
    assert count(collected, HTTP, server_address="127.0.0.1", http_response_status_code="503") == 1
    assert count(collected, HTTP, error_type="ConnectionError") == 1


def server_of(postgres: PostgresServer, redis: RedisServer, url: str = "") -> dict[str, object]:
    return {"dsn": postgres.dsn(), "port": redis.port, "url": url}


@pytest.mark.parametrize("conventions", ["", "http,database", "http/dup,database/dup"])
def test_calls_are_measured_with_old_and_new_names_of_attributes(
    conventions: str, tmp_path: Path, postgres: PostgresServer, redis: RedisServer, receiver: Receiver
) -> None:
    code = "names = deckwatch.instrument()\nassert names == deckwatch.instrument()\nprint(names, file=sys.stderr)\n"
    server = server_of(postgres, redis, receiver.url)
    with DependencyApp(
        tmp_path, code + CALLS + "stop('called')", server, OTEL_SEMCONV_STABILITY_OPT_IN=conventions
    ) as app:
        counted = app.at("called")
        check_calls(counted)
        names = ["fastapi", "flask", "redis", "psycopg", "asyncpg", "celery", "httpx", "requests"]
        assert str(names) in app.errors
        assert "sqlalchemy is not instrumented: its version is not supported" in app.errors
        assert not receiver.received, "traces are sent only if an endpoint is set"
        trace = next(s.extra.exemplar for s in counted.samples if s.extra is not None and s.extra.exemplar)
        assert dict(trace.labels).keys() == {"trace_id"}


def test_metrics_count_calls_that_are_not_sampled_and_slow_calls_are_logged(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer, receiver: Receiver
) -> None:
    code = """
class Slow(logging.Handler):
    def emit(self, record):
        print(json.dumps([record.event, record.system, record.operation, record.trace_id]), file=sys.stderr)
logging.getLogger("deckwatch.events").addHandler(Slow())
deckwatch.instrument("redis", "psycopg", slow_call_seconds=0.2)
deckwatch.instrument("httpx", "requests", "unknown")
"""
    slow = """
with psycopg.connect(SERVER["dsn"]) as connection:
    connection.execute("CALL pg_sleep(0)" if False else "VALUES (pg_sleep(0.3), 'secret')")
"""
    environ = {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    with DependencyApp(tmp_path, code + CALLS + slow, server_of(postgres, redis, receiver.url), **environ) as app:
        counted = app.end()
        check_calls(counted)
        assert not receiver.received, "spans that are not sampled are not sent"
        assert not any(sample.extra and sample.extra.exemplar for sample in counted.samples)
        events = [json.loads(line) for line in app.errors.splitlines() if line.startswith("[")]
        assert [it[:3] for it in events] == [["dependency.slow_call", "postgresql", "VALUES"]]
        assert len(events[0][3]) == 32
        assert "secret" not in app.errors
        assert "unknown is not instrumented" in app.errors


def test_traces_are_sent_with_the_name_of_the_service(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer, receiver: Receiver
) -> None:
    server = server_of(postgres, redis, receiver.url)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    with DependencyApp(tmp_path, "deckwatch.instrument()\n" + CALLS, server, **environ) as app:
        check_calls(app.end())
    paths = [path for path, _ in receiver.received]
    assert set(paths) == {"/v1/traces"}
    assert b"service.name" in receiver.received[0][1]
    assert b"shop" in receiver.received[0][1]


def test_the_applications_provider_stays_and_its_exporter_gets_only_sampled_spans(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer, receiver: Receiver
) -> None:
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.instrumentation.redis import RedisInstrumentor
provider, exporter = TracerProvider(sampler=ALWAYS_OFF), InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
deckwatch.instrument()
assert trace.get_tracer_provider() is provider
"""
    server = server_of(postgres, redis, receiver.url)
    with DependencyApp(tmp_path, code + CALLS + "assert not exporter.get_finished_spans()", server) as app:
        check_calls(app.end())


#: OpenTelemetry supports SQLAlchemy before 2.1, which is not installed here, but works with later versions.
SQLALCHEMY = """
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
SQLAlchemyInstrumentor().instrument(skip_dep_check=True)
assert "sqlalchemy" in deckwatch.instrument()
from sqlalchemy import create_engine, text
engine = create_engine(SERVER["dsn"].replace("postgresql:", "postgresql+psycopg:"))
with engine.connect() as connection:
    for _ in range(3):
        connection.execute(text("SELECT 'from sqlalchemy'"))
import psycopg
with psycopg.connect(SERVER["dsn"]) as connection:
    connection.execute("SELECT 1")
"""
SQLALCHEMY_ASYNC = """
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
SQLAlchemyInstrumentor().instrument(skip_dep_check=True)
assert "sqlalchemy" in deckwatch.instrument()
import asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
async def main():
    engine = create_async_engine(SERVER["dsn"].replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as connection:
        for _ in range(3):
            await connection.execute(text("SELECT 'from sqlalchemy'"))
    import asyncpg
    connection = await asyncpg.connect(SERVER["dsn"])
    await connection.fetch("SELECT 1")
    await connection.close()
    await engine.dispose()
asyncio.run(main())
"""


@pytest.mark.parametrize("code", [SQLALCHEMY, SQLALCHEMY_ASYNC], ids=["psycopg", "asyncpg"])
def test_a_statement_of_sqlalchemy_counts_once(code: str, tmp_path: Path, postgres: PostgresServer) -> None:
    with DependencyApp(tmp_path, code, {"dsn": postgres.dsn()}) as app:
        counted = app.end()
        assert count(counted, DB, db_operation_name="SELECT") == 4
        assert count(counted, DB, db_operation_name="SELECT", error_type="") == 4


def test_a_log_handler_that_makes_slow_calls_logs_once(tmp_path: Path, redis: RedisServer) -> None:
    code = """
deckwatch.instrument("redis", slow_call_seconds=0)
import redis
client = redis.Redis(port=SERVER["port"])
class Remote(logging.Handler):
    def emit(self, record):
        client.rpush("log", record.getMessage())
logging.getLogger("deckwatch.events").addHandler(Remote())
client.ping()
assert client.llen("log") == 1
"""
    with DependencyApp(tmp_path, code, {"port": redis.port}) as app:
        app.end()


CELERY = """
deckwatch.instrument("celery")
from celery import Celery
from celery.contrib.testing.worker import start_worker
app = Celery("shop", broker=SERVER["url"], backend=SERVER["url"])
@app.task(name="shop.charge")
def charge():
    return 1
with start_worker(app, perform_ping_check=False):
    assert charge.apply_async(queue="celery").get(timeout=60) == 1
"""


def test_tasks_of_celery_are_measured_where_they_are_sent_and_processed(tmp_path: Path, redis: RedisServer) -> None:
    with DependencyApp(tmp_path, CELERY, {"url": redis.url}) as app:
        counted = app.end()
        sent, processed = "messaging_client_operation_duration_seconds", "messaging_process_duration_seconds"
        assert count(counted, sent, messaging_system="celery", messaging_operation_name="apply_async") == 1
        assert count(counted, processed, messaging_system="celery", messaging_operation_name="run") == 1
        assert count(counted, processed, messaging_destination_name="celery") == 1


def test_without_opentelemetry_the_application_works_and_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = """
sys.modules["opentelemetry"] = None
assert deckwatch.instrument() == []
"""
    with DependencyApp(tmp_path, code) as app:
        app.end()
        assert "nothing is instrumented" in app.errors
        assert "Install deckwatch[otel]" in app.errors
        assert "Traceback" not in app.errors
