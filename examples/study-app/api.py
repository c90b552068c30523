"""Studies by topic, found by a search service, with a cache, a pool, a breaker and retries."""

import os
import shutil
import time
import urllib.request

import cachetools
import psycopg
import pybreaker
from fastapi import FastAPI, HTTPException
from psycopg_pool import ConnectionPool
from tenacity import retry, retry_if_not_exception_type, stop_after_attempt, wait_exponential

import deckwatch
from deckwatch import health

deckwatch.setup_logging(file=os.path.join(os.environ["LOG_DIR"], "api.json"))

pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=20, timeout=2, open=True)
deckwatch.watch_pool(pool, "main")
studies = deckwatch.watch_cache(cachetools.TTLCache(maxsize=100, ttl=30), "studies")
breaker = deckwatch.watch_breaker(pybreaker.CircuitBreaker(fail_max=5, reset_timeout=10, name="search"))
fallbacks = deckwatch.counter("fallbacks_used_total", "Answers that came from a fallback.", ["operation"])

app = FastAPI()
app.add_middleware(deckwatch.AsgiMiddleware, slow_request_seconds=1.0)
app.add_route("/health{rest:path}", health.asgi_app())


def _database():
    with pool.connection() as connection:
        connection.execute("SELECT 1")


health.register("database", _database)
health.register("disk", lambda: shutil.disk_usage("/").free > 100 * 1024**2, critical=False)
health.register("cpu", lambda: os.getloadavg()[0] < 100 * os.cpu_count(), critical=False)


@retry(
    stop=stop_after_attempt(3),
    wait=wait_exponential(0.05),
    retry=retry_if_not_exception_type(pybreaker.CircuitBreakerError),
    reraise=True,
)
def _search(topic):
    with breaker.calling(), urllib.request.urlopen(f"{os.environ['SEARCH_URL']}/{topic}", timeout=2) as answer:
        return answer.read()


deckwatch.watch_retries(_search, "search")


@deckwatch.timed("studies_load_duration_seconds", "Time to load the studies of a topic, in seconds.")
def _load(topic):
    with pool.connection() as connection:
        rows = connection.execute("SELECT id, title FROM studies WHERE topic = %s LIMIT 20", (topic,)).fetchall()
    deckwatch.event("studies.loaded", category="database", topic=topic, rows=len(rows))
    return [{"id": number, "title": title} for number, title in rows]


@app.get("/topics/{topic}")
def topic(topic: str):
    found = studies.get(topic)
    if found is None:
        found = studies[topic] = _load(topic)
    return found


@app.get("/search/{topic}")
def search(topic: str):
    try:
        _search(topic)
        return {"from": "search"}
    except (pybreaker.CircuitBreakerError, OSError):
        fallbacks.labels("search").inc()
        return {"from": "cache"}


@app.put("/studies/{number}")
def change(number: int, title: str, user: str = "anonymous"):
    with pool.connection() as connection:
        done = connection.execute("UPDATE studies SET title = %s WHERE id = %s", (title, number))
    if not done.rowcount:
        raise HTTPException(404)
    deckwatch.event("study.changed", category="audit", user=user, study=number, changes={"title": title})
    return {"id": number}


@app.post("/login")
def login(user: str, password: str):
    ok = password == os.environ.get("STUDY_PASSWORD", "correct")
    category, name = ("audit", "login") if ok else ("security", "login.failed")
    deckwatch.event(name, category=category, user=user, password=password)
    if not ok:
        raise HTTPException(401)
    return {}


@app.get("/report")
def report(seconds: float = 0.0):
    time.sleep(min(seconds, 5))
    return {"rows": 0}


@app.get("/fail")
def fail():
    raise psycopg.DataError("as asked")


@app.delete("/errors")
def clear():
    health.clear_errors()
    return {}
