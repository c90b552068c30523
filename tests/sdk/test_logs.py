"""Logs of applications: what `setup_logging` and `event` write."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from deckwatch.sdk.logs import json_lines
from deckwatch.sdk.logs.json_lines import JsonLines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(params=["orjson", "json"])
def formatter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> JsonLines:
    """A formatter with and without orjson."""
    if request.param == "json":
        monkeypatch.setattr(json_lines, "_orjson_dumps", lambda: None)
    return JsonLines("shop")


def formatted(formatter: JsonLines, message: object, *arguments: object, **extra: object) -> dict[str, Any]:
    record = logging.getLogger("shop.orders").makeRecord(
        "shop.orders", logging.WARNING, "f.py", 1, message, arguments, None, extra=extra
    )
    line = formatter.format(record)
    assert "\n" not in line
    found: dict[str, Any] = orjson.loads(line)  # stricter than json: the agent uses it
    difference = datetime.fromisoformat(found["timestamp"]) - datetime.fromtimestamp(record.created, UTC)
    assert abs(difference.total_seconds()) <= 1e-6
    return found


def run(code: str, *, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, **environ},
    )


def lines(text: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in text.splitlines()]


def test_a_line_has_time_level_logger_message_service_and_fields(formatter: JsonLines) -> None:
    found = formatted(formatter, "order %d\npaid", 7, amount=12.5, items=["a"])
    del found["timestamp"]
    assert found == {
        "level": "WARNING",
        "logger": "shop.orders",
        "message": "order 7\npaid",
        "service": "shop",
        "amount": 12.5,
        "items": ["a"],
    }


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def test_every_value_becomes_valid_json(formatter: JsonLines) -> None:
    circular: list[object] = []
    circular.append(circular)
    found = formatted(
        formatter,
        "text \ud800",
        number=2**70,
        nan=math.nan,
        nested={1: math.inf, "when": datetime(2026, 3, 2, tzinfo=UTC), "raw": b"\xff"},
        many={"b", "a"},
        broken=Unprintable(),
        circular=circular,
    )
    assert found["message"] == "text ?"
    assert found["nan"] is None
    assert found["nested"]["1"] is None
    assert found["nested"]["when"].startswith("2026-03-02T00:00:00")
    assert found["nested"]["raw"] == "\ufffd"
    assert found["many"] == ["a", "b"]
    assert found["broken"] == "<Unprintable: RuntimeError>"


def test_arguments_that_do_not_fit_the_text_are_logged_with_it(formatter: JsonLines) -> None:
    found = formatted(formatter, "%d orders", "two")
    assert found["message"] == "'%d orders' ('two',)"
    assert found["format_error"].startswith("TypeError")


def test_credentials_are_redacted_everywhere(formatter: JsonLines) -> None:
    found = formatted(
        formatter,
        "connecting to %s with password=hunter2, the token:",
        "redis://user:hunter2@host/0",
        password="hunter2",
        api_key=12345,
        headers=[{"Authorization": "Bearer hunter2hunter2"}, {"x": ("token=hunter2",)}],
        count=1,
    )
    assert "hunter2" not in json.dumps(found)
    assert found["message"] == "connecting to redis://user:***@host/0 with password=***, the token:"
    assert found["password"] == found["api_key"] == found["headers"][0]["Authorization"] == "***"
    assert found["count"] == 1


def test_standard_output_has_one_line_per_record_in_order_with_the_time_of_the_record() -> None:
    code = """
import deckwatch, logging
deckwatch.setup_logging("shop", level="DEBUG")
for number in range(3000):
    logging.getLogger("a").debug("n", extra={"number": number})
try:
    1 / 0
except ZeroDivisionError:
    logging.exception("failed")
"""
    before = time.time()
    found = lines(run(code).stdout)
    assert [line.get("number") for line in found] == [*range(3000), None]
    assert "ZeroDivisionError: division by zero" in found[-1]["exc_info"]
    times = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in found]
    assert times == sorted(times)
    assert before - 1 <= times[0]


FILES = """
import deckwatch, logging
deckwatch.setup_logging(file="log/app.json", level="WARNING")
logging.info("hidden")
logging.error("wrong")
deckwatch.event("login_failed", category="security", user="ada", name="x")
deckwatch.event("role_changed", category="audit", user="ada")
"""


def test_errors_and_audit_events_have_files_of_their_own(tmp_path: Path) -> None:
    assert run(FILES, cwd=tmp_path, DECKWATCH_SERVICE="shop").stdout == ""
    found = lines((tmp_path / "log/app.json").read_text())
    assert [line["message"] for line in found] == ["wrong", "login_failed", "role_changed"]
    assert {line["service"] for line in found} == {"shop"}
    assert (found[1]["event"], found[1]["category"], found[1]["name_"]) == ("login_failed", "security", "x")
    assert found[1]["logger"] == "deckwatch.events.security"
    assert lines((tmp_path / "log/app.json.errors").read_text()) == found[:1]
    assert lines((tmp_path / "log/app.json.audit").read_text()) == found[2:]


def test_a_file_that_cannot_be_written_is_replaced_by_standard_output(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    found = lines(run(FILES, cwd=tmp_path).stdout)
    assert [line["message"] for line in found[1:]] == ["wrong", "login_failed", "role_changed"]
    assert "Not a directory" in found[0]["message"] or "File exists" in found[0]["message"]


FORK = """
import deckwatch, logging, multiprocessing, os
deckwatch.setup_logging()
def work(number):
    logging.warning("child %d", number)
for number in range(100):
    logging.warning("parent %d", number)
if os.fork() == 0:
    work(0)
    deckwatch.flush_logs()
    os._exit(0)
os.wait()
processes = [multiprocessing.get_context("fork").Process(target=work, args=(number,)) for number in (1, 2)]
for process in processes:
    process.start()
for process in processes:
    process.join()
"""


def test_lines_of_forked_processes_and_their_parent_are_written_once() -> None:
    found = [line["message"] for line in lines(run(FORK).stdout)]
    assert sorted(found) == sorted([*(f"parent {n}" for n in range(100)), *(f"child {n}" for n in range(3))])


def test_a_blocked_output_does_not_block_the_application_and_lost_lines_are_counted() -> None:
    code = """
import deckwatch, logging, prometheus_client, sys, os
deckwatch.setup_logging()
for number in range(15_000):
    logging.warning("x" * 100)
dropped = prometheus_client.REGISTRY.get_sample_value("app_log_lines_dropped_total", {"reason": "queue_full"})
print(dropped, file=sys.stderr, flush=True)
os._exit(0)
"""
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=True, timeout=60
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert float(done.stderr) > 0


def test_lines_that_cannot_be_written_are_counted_and_reported_once() -> None:
    code = """
import deckwatch, logging, prometheus_client
deckwatch.setup_logging()
for number in range(3):
    logging.warning("x")
    deckwatch.flush_logs()
assert prometheus_client.REGISTRY.get_sample_value("app_log_lines_dropped_total", {"reason": "write_failed"}) == 3
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.stderr.count("cannot write log lines") == 1
    assert "AssertionError" not in done.stderr


def test_a_second_call_replaces_the_first() -> None:
    code = """
import deckwatch, logging
deckwatch.setup_logging("one")
logging.warning("1")
deckwatch.setup_logging("two")
logging.warning("2")
"""
    assert [line["service"] for line in lines(run(code).stdout)] == ["one", "two"]


def counted(names: Sequence[str]) -> str:
    return f"import deckwatch\nfor name in {list(names)!r}: deckwatch.event(name)\n"


def test_events_are_counted_by_name_and_category() -> None:
    code = counted(["order_placed", "order_placed"]) + (
        "deckwatch.event('signed_in', category='security')\n"
        "import prometheus_client; print(prometheus_client.generate_latest().decode())"
    )
    found = run(code).stdout
    assert 'app_events_total{category="business",event="order_placed"} 2.0' in found
    assert 'app_events_total{category="security",event="signed_in"} 1.0' in found
