"""The shipper: Loki stores every line exactly once, whatever errors it returns."""

from __future__ import annotations

import gzip
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.logs.shipping import APP, Shipping, shipping
from loki import Fault, assert_exactly_once, loki, loki_under_test
from services import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR = 3600 * 10**9


@pytest.fixture
def ship(tmp_path: Path) -> Iterator[Shipping]:
    with shipping(tmp_path) as made:
        yield made


def numbered(count: int, text: str = "line") -> list[str]:
    return [f"{text} {number}" for number in range(count)]


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_each_line_arrives_once_in_order_with_its_metadata(ship: Shipping, encoding: str) -> None:
    job = f"once-{time.time_ns()}"
    labels = (("job", job), ("level", "info"))
    with loki_under_test() as store:
        lines = ship.add(numbered(3000), labels, metadata={"trace_id": 'a"é\n'})
        ship.start(store.url, encoding=encoding)
        until(lambda: ship.done)
        lines += ship.add(["same", "same", "same", ""], labels)
        until(lambda: ship.done)
        found = until(lambda: len(e := store.entries(f'{{job="{job}"}}')) == len(lines) and e, what="all lines")
        assert isinstance(found, list)
    assert [entry.line for entry in found] == lines
    assert found[0].labels == labels
    assert found[0].metadata == (("trace_id", 'a"é\n'),)
    assert (ship.counts.lines, ship.counts.dropped) == (len(lines), {})


def test_lines_spooled_while_loki_is_down_arrive_when_it_is_up(ship: Shipping) -> None:
    port = free_port()
    lines = ship.add(numbered(500))
    ship.start(f"http://127.0.0.1:{port}")
    until(lambda: ship.counts.failures["connection"] >= 3)
    assert ship.counts.failing_since is not None
    with loki(port=port) as double:
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)
    assert ship.counts.failing_since is None


FAULTS = {
    "500": Fault("status", 500),
    "503": Fault("status", 503),
    "429": Fault("status", 429, "ingestion rate limit exceeded"),
    "401": Fault("status", 401),
    "403": Fault("status", 403),
    "404": Fault("status", 404),
    "301": Fault("status", 301, location="http://127.0.0.1:1/"),
    "260": Fault("status", 260, "ingestion blocked for user"),
    "400 of a proxy": Fault("status", 400, "<html>", content_type="text/html"),
    "close in the body": Fault("close_in_body"),
    "closed at once": Fault("refuse"),
    "stored without an answer": Fault("store_and_close"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_line_arrives_once_when_pushes_fail(ship: Shipping, name: str) -> None:
    with loki() as double:
        lines = ship.add(["first"])
        ship.start(double.url)
        until(lambda: ship.done)
        double.next_faults = [FAULTS[name]] * 4
        for part in range(5):
            lines += ship.add(numbered(200, f"part {part}"))
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)
        assert double.stored_lines == lines
        assert not double.next_faults
        assert ship.counts.lines == len(lines)
    assert ship.counts.failures
    assert ship.set_aside() == []


def test_a_hanging_loki_causes_a_timeout_and_loses_no_line(ship: Shipping) -> None:
    with loki() as double:
        double.next_faults = [Fault("hang"), Fault("slow", seconds=0.2)]  # the response takes almost 10 s
        lines = ship.add(numbered(100))
        ship.start(double.url, timeout="2s")
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)
        assert double.sent_again == len(lines)
    assert ship.counts.failures == {"timeout": 2}


def test_a_repeated_push_is_identical_to_the_byte(ship: Shipping) -> None:
    with loki() as double:
        double.next_faults = [Fault("status", 500), Fault("store_and_close"), Fault("hang")]
        ship.add(["a", "a", "b"])
        ship.start(double.url, timeout="1s")
        until(lambda: ship.done)
        bodies = {request.body for request in double.requests}
    assert len(double.requests) >= 4
    assert len(bodies) == 1


def test_lines_sent_before_a_restart_are_not_stored_twice(ship: Shipping) -> None:
    with loki() as double:
        double.fault = Fault("store_and_close")
        lines = ship.add(numbered(300))
        ship.start(double.url)
        until(lambda: len(double.requests) >= 2)
        ship.halt()
        assert not ship.done
        double.fault = None
        ship.reader.rewind()
        ship.start(double.url)
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)


@pytest.mark.parametrize("fault", [Fault("hang"), Fault("status", 503, retry_after="3000"), None])
def test_a_stop_ends_every_wait(ship: Shipping, fault: Fault | None) -> None:
    with loki() as double:
        double.fault = fault
        if fault:
            ship.add(["x"])
        ship.start(double.url, timeout="1h", max_backoff="1h")
        if fault:
            until(lambda: double.requests)
        ship.halt()  # each wait is almost an hour


def test_retry_after_is_honoured(ship: Shipping) -> None:
    with loki() as double:
        double.next_faults = [Fault("status", 429, "too many", retry_after="1")]
        ship.add(["x"])
        ship.start(double.url)
        until(lambda: ship.done)
        first, second = double.requests
    assert second.at - first.at >= 1
    assert ship.counts.failures == {"rate_limited": 1}


def test_a_backlog_is_sent_within_the_rate_limit(ship: Shipping) -> None:
    with loki(rate=400_000, burst=100_000) as double:
        lines = [line for part in range(4) for line in ship.add([f"{part} {n} {'x' * 100}" for n in range(800)])]
        ship.start(double.url, batch_bytes="64KiB")
        until(lambda: ship.done)
        assert double.statuses().count(429) > 0
        assert double.stored_lines == lines


def test_a_push_larger_than_the_burst_is_split(ship: Shipping) -> None:
    with loki(rate=1_000_000, burst=150_000) as double:
        lines = ship.add([f"{n} {'x' * 100}" for n in range(3000)])
        ship.start(double.url)
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)


def test_a_rate_limited_stream_is_not_hidden_by_another(ship: Shipping) -> None:
    with loki(stream_rate=200_000, stream_burst=120_000) as double:
        fast, slow = (("job", "fast"),), (("job", "slow"),)
        lines = []
        for part in range(4):
            lines += ship.add([f"{part} {n} {'x' * 100}" for n in range(900)], fast)
            lines += ship.add([f"slow {part}"], slow)
        ship.start(double.url)
        until(lambda: ship.done)
        assert double.discarded["per_stream_rate_limit"]
        assert_exactly_once(lines, double.stored_lines)


def test_a_body_too_large_is_split(ship: Shipping) -> None:
    with loki(body=20_000) as double:
        lines = ship.add([f"{n} {'x' * 100}" for n in range(2000)])
        ship.start(double.url)
        until(lambda: ship.done)
        assert double.stored_lines == lines
        assert 413 in double.statuses()
    assert ship.set_aside() == []


def test_a_single_entry_that_is_too_large_for_a_body_is_quarantined(ship: Shipping) -> None:
    with loki(body=20_000) as double:
        ship.add(["before", "x" * 30_000, "after"])
        ship.start(double.url)
        until(lambda: ship.done)
        assert double.stored_lines == ["before", "after"]
    (entry,) = ship.set_aside()
    assert (entry["reason"], len(entry["line"])) == ("body_too_large", 30_000)


def test_entries_that_are_too_old_are_quarantined_and_the_others_stored(ship: Shipping) -> None:
    old = time.time_ns() - 8 * 24 * HOUR
    with loki() as double:
        gone = ship.add(numbered(50, "old"), at=old)
        lines = ship.add(numbered(100))
        ship.start(double.url)
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)
        assert double.statuses() == [400]  # not sent again, because the response lists every rejected entry
    assert [entry["line"] for entry in ship.set_aside()] == gone
    assert ship.set_aside()[0] | {"set_aside": 0} == {
        "set_aside": 0,
        "destination": "127.0.0.1",
        "reason": "greater_than_max_sample_age",
        "time": old,
        "labels": dict(APP),
        "line": "old 0",
        "metadata": {},
    }
    assert ship.counts.dropped == {"greater_than_max_sample_age": 50}
    assert ship.counts.lines == 100


def test_entries_beyond_the_limit_are_identified_within_its_second(ship: Shipping) -> None:
    with loki() as double:
        now = time.time()
        double.now = lambda: now
        limit = int(now * 10**9) - 7 * 24 * HOUR
        beyond = ship.add(["much too old"], at=limit - 5 * 10**9)
        within = ship.add(["just in time"], at=limit + 3_000_000)
        beyond += ship.add(["just too old"], at=limit - 3_000_000)
        ship.start(double.url, batch_wait="300ms")
        until(lambda: ship.done)
        assert double.stored_lines == within
    assert sorted(entry["line"] for entry in ship.set_aside()) == sorted(beyond)


def test_any_number_of_entries_too_far_behind_is_quarantined(ship: Shipping) -> None:
    with loki() as double:
        lines = ship.add(["newest"])
        gone = ship.add(numbered(40, "behind"), at=ship.now - 2 * HOUR)
        lines += ship.add(numbered(30))
        lines += ship.add(["another stream"], (("job", "other"),))
        ship.start(double.url, batch_wait="300ms")
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)
    assert [entry["line"] for entry in ship.set_aside()] == gone
    assert ship.counts.dropped == {"too_far_behind": 40}


def test_errors_of_an_ingester_do_not_hide_errors_of_the_distributor(ship: Shipping) -> None:
    with loki(line=1000) as double:
        lines = ship.add(["newest"])
        ship.add(["behind"], at=ship.now - 2 * HOUR)
        ship.add(["x" * 1001])
        lines += ship.add(["last"])
        ship.start(double.url, batch_wait="300ms")
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)
    assert ship.counts.dropped == {"too_far_behind": 1, "line_too_long": 1}


@pytest.mark.parametrize("service_name", [False, True])
def test_each_kind_of_rejected_entry_is_quarantined_with_its_reason(ship: Shipping, service_name: bool) -> None:
    many = {f"k{number}": "v" for number in range(129)}
    with loki(service_name=service_name) as double:
        lines = ship.add(["é" * 100, "z" * 299_999])
        ship.add(["é" * 150_000])
        ship.add(["future"], at=time.time_ns() + HOUR)
        ship.add(["meta"], metadata={"a": "x" * 70_000})
        ship.add(["meta"], metadata=many)
        ship.add(["label"], (("job", 'x"\\\n' * 1000),))
        ship.add(["labels"], tuple((f"l{number:02}", "x") for number in range(16)))
        lines += ship.add(["fine"], (("job", 'quoted " and \\ }, {a="b"}'),))
        lines.remove("z" * 299_999)
        ship.start(double.url, batch_wait="300ms", batch_bytes="8MiB")
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)
    assert ship.counts.dropped == {
        "line_too_long": 2,
        "too_far_in_future": 1,
        "structured_metadata_too_large": 1,
        "structured_metadata_too_many": 1,
        "label_value_too_long": 1,
        "max_label_names_per_series": 1,
    }


def test_a_single_entry_that_cannot_be_parsed_is_found_and_quarantined(ship: Shipping) -> None:
    with loki() as double:
        lines = ship.add(numbered(500))
        ship.add(["bad"], (("not a label name", "x"),))
        lines += ship.add(numbered(500, "more"))
        ship.start(double.url, batch_wait="300ms")
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)
    assert [(entry["line"], entry["reason"]) for entry in ship.set_aside()] == [("bad", "rejected")]


def test_entries_are_not_quarantined_before_the_destination_accepted_any(ship: Shipping) -> None:
    with loki() as double:
        double.fault = Fault("status", 400, "Client sent an HTTP request to an HTTPS server.")
        lines = ship.add(numbered(1000))
        ship.start(double.url)
        until(lambda: ship.counts.failures["bad_request"] >= 2)
        assert ship.set_aside() == []
        double.fault = None
        until(lambda: ship.done)
        assert_exactly_once(lines, double.stored_lines)


def test_a_batch_stays_in_the_spool_while_the_quarantine_folder_is_full(ship: Shipping, tmp_path: Path) -> None:
    (tmp_path / "quarantine.jsonl").mkdir()
    with loki(line=100) as double:
        ship.add(["x" * 101, "fine"])
        ship.start(double.url)
        until(lambda: ship.counts.failures["disk"] >= 2)
        assert not ship.done
        (tmp_path / "quarantine.jsonl").rmdir()
        until(lambda: ship.done)
        assert double.stored_lines == ["fine"]
    assert [entry["reason"] for entry in ship.set_aside()] == ["line_too_long"]
    assert ship.counts.lines == 1


def test_labels_of_the_destination_are_added_unless_an_entry_has_them(ship: Shipping) -> None:
    with loki() as double:
        ship.add(["x"])
        ship.start(double.url, labels={"env": "prod", "level": "none"})
        until(lambda: ship.done)
        assert list(double.stored) == [(("env", "prod"), ("job", "app"), ("level", "info"))]


def test_payloads_are_gathered_into_batches(ship: Shipping) -> None:
    with loki() as double:
        lines = [line for part in range(40) for line in ship.add([f"{part}"])]
        ship.start(double.url, batch_wait="500ms")
        until(lambda: ship.done)
        assert double.stored_lines == lines
        assert len(double.requests) == 1
        assert double.connections == 1
        body: Any = json.loads(gzip.decompress(double.requests[0].body))
    assert len(body["streams"]) == 1


def test_only_state_changes_are_logged(ship: Shipping, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "deckwatch.logs.ship")
    with loki(bearer="s3cret") as double:
        ship.add(["x"])
        ship.start(double.url, bearer_token="wrong-t0ken")
        until(lambda: ship.counts.failures["unauthorized"] >= 4)
        ship.halt()
        ship.reader.rewind()
        ship.start(double.url, bearer_token="s3cret")
        until(lambda: ship.done)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "(unauthorized): status 401" in caplog.messages[0]
    assert "t0ken" not in caplog.text


def test_durations_are_counted_into_buckets(ship: Shipping) -> None:
    with loki() as double:
        ship.add(["x"])
        ship.start(double.url)
        until(lambda: ship.done)
    assert sum(ship.counts.durations) == ship.counts.pushes == 1
    assert ship.counts.duration_sum > 0
