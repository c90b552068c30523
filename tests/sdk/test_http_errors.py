"""Fingerprints and the table of errors, and what happens if another library has the names of the metrics."""

from __future__ import annotations

import subprocess
import sys

from deckwatch.sdk.http.errors import TopErrors, fingerprint
from deckwatch.sdk.http.traces import trace_of

TRACE = "0af7651916cd43dd8448eb211c80319c"


def raised(message: str, kind: type[Exception] = ValueError) -> Exception:
    try:
        raise kind(message)
    except Exception as error:  # noqa: BLE001 - the error under test
        return error


def test_a_fingerprint_depends_on_type_and_place_but_not_on_the_message() -> None:
    one, other = raised("order 1"), raised("order 2")
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one)[1].endswith(":raised")
    assert fingerprint(raised("order 1", KeyError)) != fingerprint(one)


def test_the_table_is_bounded_and_keeps_frequent_errors() -> None:
    errors = TopErrors(limit=3)
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(10)]
    for _ in range(5):
        errors.add(raised("frequent"), "/pay")
    for kind in kinds:
        errors.add(raised("rare", kind), "/pay")
    groups = errors.most_frequent(10)
    assert len(groups) == 3
    assert (groups[0].type, groups[0].count, groups[0].message, groups[0].route) == (
        "ValueError",
        5,
        "frequent",
        "/pay",
    )


def test_malformed_traceparents_are_ignored() -> None:
    found = trace_of(f"00-{TRACE}-b7ad6b7169203331-01")
    assert found is not None
    assert (found.id, found.is_sampled) == (TRACE, True)
    zero = "0" * 32
    for text in ("", "00", f"ff-{TRACE}-b7ad6b7169203331-01", f"00-{zero}-b7ad6b7169203331-01", f"00-{TRACE}-b7-01"):
        assert trace_of(text) is None
    assert trace_of(f"00-{TRACE[:-1]}\n-b7ad6b7169203331-01") is None


def test_another_metric_with_the_same_name_leaves_the_application_working() -> None:
    code = """
import asyncio, logging
import deckwatch, prometheus_client
logging.basicConfig()
prometheus_client.Counter("http_requests_total", "Of another library.")

async def app(scope, receive, send):
    print("answered")

asyncio.run(deckwatch.AsgiMiddleware(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, None, None))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "answered\n"
    assert "HTTP requests are not measured" in done.stderr
