"""The Loki double is as strict as Loki in what it stores, rejects and reports."""

from __future__ import annotations

import gzip
import json
import time
import urllib.error
import urllib.request
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from loki import Fault, Loki, Stored, assert_exactly_once, loki
from loki_wire import unsnappy

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = time.time_ns()
HOUR = 3600 * 10**9
APP = {"job": "app"}


def push(url: str, *streams: tuple[dict[str, str], list[Any]], **headers: str) -> tuple[int, str]:
    made = [{"stream": labels, "values": [[str(time), *rest] for time, *rest in values]} for labels, values in streams]
    return send(url, json.dumps({"streams": made}).encode(), **headers)


def send(url: str, body: bytes, **headers: str) -> tuple[int, str]:
    status, text, _ = answer(url, body, {name.replace("_", "-"): value for name, value in headers.items()})
    return status, text


def answer(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, Mapping[str, str]]:
    request = urllib.request.Request(url + "/loki/api/v1/push", body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode(), dict(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def test_entries_are_stored_by_stream_and_read_back() -> None:
    with loki() as double:
        assert push(double.url, (APP, [(NOW, "a"), (NOW + 1, "b", {"k": "v"})])) == (204, "")
        assert push(double.url, ({"job": "web"}, [(NOW, "c")])) == (204, "")
        assert double.stored == {
            (("job", "app"),): [(NOW, "a", ()), (NOW + 1, "b", (("k", "v"),))],
            (("job", "web"),): [(NOW, "c", ())],
        }
        labels = (("job", "app"),)
        assert Loki(double.url).entries('{job="app"}') == [
            Stored(labels, NOW, "a", ()),
            Stored(labels, NOW + 1, "b", (("k", "v"),)),
        ]


def test_results_of_several_pages_are_read() -> None:
    with loki() as double:
        lines = [str(number) for number in range(12_000)]
        push(double.url, (APP, [(NOW + number // 3, line) for number, line in enumerate(lines)]))
        assert_exactly_once(lines, double.lines('{job="app"}'))


def test_a_repeated_entry_is_stored_once_and_another_line_at_the_same_time_is_kept() -> None:
    with loki() as double:
        for _ in range(2):
            push(double.url, (APP, [(NOW, "a"), (NOW, "b"), (NOW, "a", {"k": "v"})]))
        assert len(double.stored_lines) == double.sent_again == 3


@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
def test_json_is_read_in_every_encoding(encoding: str) -> None:
    body = json.dumps({"streams": [{"stream": APP, "values": [[str(NOW), "x"]]}]}).encode()
    packer = zlib.compressobj(wbits=-15)
    packed = {"gzip": gzip.compress(body), "deflate": packer.compress(body) + packer.flush(), "": body}[encoding]
    with loki() as double:
        assert send(double.url, packed, Content_Encoding=encoding)[0] == 204
        assert double.stored_lines == ["x"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"streams": {}}',
        b'{"streams":[{"stream":{"a":1},"values":[]}]}',
        b'{"streams":[{"stream":{"a":"b"},"values":[[1,"x"]]}]}',
        b'{"streams":[{"stream":{"a":"b"},"values":[["1.5","x"]]}]}',
        b'{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}',
        b'{"streams":[{"stream":{"a":"b"},"values":[["1","x",{},{}]]}]}',
        b'{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"k":1}]]}]}',
        b'{"streams":[{"stream":{"a b":"b"},"values":[["1","x"]]}]}',
        b'{"streams":[{"stream":{"a":"\xff"},"values":[["1","x"]]}]}',
    ],
)
def test_a_body_that_cannot_be_parsed_is_rejected_as_a_whole(body: bytes) -> None:
    with loki() as double:
        assert send(double.url, body)[0] == 400
        assert double.stored == {}


def test_a_snappy_block_with_copies_is_decompressed() -> None:
    assert unsnappy(b"\x0a\x04ab\x11\x02") == b"ababababab"  # a copy of 8 bytes that overlaps itself
    assert unsnappy(b"\x06\x08abc\x0a\x03\x00") == b"abcabc"
    for broken in (b"\x03\x08ab", b"\x0a\x04ab\x11\x03", b"\x05\x04ab"):
        with pytest.raises(ValueError, match="corrupt"):
            unsnappy(broken)


@pytest.mark.parametrize(
    ("labels", "value", "text"),
    [
        (APP, (NOW - 8 * 24 * HOUR, "x"), "has timestamp too old"),
        (APP, (NOW + HOUR, "x"), "has timestamp too new"),
        (APP, (NOW, "é" * 131_073), "max entry size '262144' bytes exceeded for stream '{job=\"app\"}'"),
        (APP, (NOW, "x", {"k": "v" * 65_536}), "has structured metadata too large: '65537' bytes"),
        (APP, (NOW, "x", {f"k{n}": "" for n in range(129)}), "has too many structured metadata labels: '129'"),
        ({"a": "x" * 2049}, (NOW, "x"), "has label value too long"),
        ({"a" * 1025: "x"}, (NOW, "x"), "has label name too long"),
        ({f"l{n}": "x" for n in range(16)}, (NOW, "x"), "has 16 label names; limit 15"),
        ({}, (NOW, "x"), "at least one label pair is required"),
        ({"a": ""}, (NOW, "x"), "at least one label pair is required"),
    ],
)
def test_each_limit_rejects_only_the_entry_that_exceeds_it(
    labels: dict[str, str], value: tuple[Any, ...], text: str
) -> None:
    with loki() as double:
        status, message = push(double.url, (labels, [value]), ({"job": "fine"}, [(NOW, "fine")]))
        assert status == 400
        assert text in message
        assert double.stored_lines == ["fine"]
        assert double.discarded.total() == 1


def test_entries_just_within_the_limits_are_stored() -> None:
    labels = {f"l{n}": "x" * 2048 for n in range(15)}
    metadata = {f"k{n:03}": "v" * 508 for n in range(128)}
    with loki() as double:
        assert push(double.url, (labels, [(NOW, "é" * 131_072, metadata)])) == (204, "")


def test_an_entry_more_than_an_hour_behind_its_stream_is_rejected_with_its_time() -> None:
    with loki() as double:
        behind = NOW - HOUR - 10**9
        status, message = push(double.url, (APP, [(NOW, "a"), (behind, "b"), (NOW - HOUR + 10**9, "c")]))
        assert status == 400
        assert "reason: 'entry too far behind, entry timestamp is: " in message
        assert "user 'fake', total ignored: 1 out of 3 for stream: {job=\"app\"}" in message
        assert double.stored_lines == ["a", "c"]
        assert push(double.url, ({"job": "web"}, [(behind, "d")])) == (204, "")


def test_an_error_lists_at_most_ten_entries() -> None:
    with loki() as double:
        _, message = push(double.url, (APP, [(NOW, "a"), *((NOW - 2 * HOUR + n, "b") for n in range(25))]))
    assert message.count("entry with timestamp") == 10
    assert "total ignored: 25 out of 26" in message


def test_the_result_of_the_last_stream_hides_errors_of_the_others() -> None:
    with loki() as double:
        push(double.url, (APP, [(NOW, "a")]))
        assert push(double.url, (APP, [(NOW - 2 * HOUR, "b")]), ({"job": "web"}, [(NOW, "c")])) == (204, "")
        assert sorted(double.stored_lines) == ["a", "c"]


def test_a_push_above_the_byte_rate_is_rejected_as_a_whole() -> None:
    with loki(rate=1000, burst=100) as double:
        double.retry_after = "3"
        assert push(double.url, (APP, [(NOW, "x" * 90)]))[0] == 204
        body = json.dumps({"streams": [{"stream": APP, "values": [[str(NOW), "y" * 90]]}]}).encode()
        status, message, headers = answer(double.url, body, {})
        assert (status, headers["Retry-After"]) == (429, "3")
        assert "ingestion rate limit exceeded for user fake (limit: 1000 bytes/sec)" in message
        assert len(double.stored_lines) == 1


def test_a_body_that_is_too_large_is_rejected_compressed_or_not() -> None:
    with loki(body=1000) as double:
        body = json.dumps({"streams": [{"stream": APP, "values": [[str(NOW), "x" * 2000]]}]}).encode()
        assert send(double.url, body)[0] == 413
        assert send(double.url, gzip.compress(body), Content_Encoding="gzip")[0] == 413


def test_tenants_are_separate_and_required() -> None:
    with loki(tenant="a") as double:
        assert push(double.url, (APP, [(NOW, "x")])) == (401, "no org id\n")
        assert push(double.url, (APP, [(NOW, "x")]), X_Scope_OrgID="b")[0] == 204
        assert double.stored == {}
        assert Loki(double.url, "b").lines('{job="app"}') == ["x"]


def test_faults_occur_in_order_and_then_end() -> None:
    with loki() as double:
        double.next_faults = [Fault("status", 503, retry_after="2"), Fault("store_and_close")]
        assert push(double.url, (APP, [(NOW, "x")]))[0] == 503
        assert double.stored == {}
        with pytest.raises(OSError, match=r".*"):
            push(double.url, (APP, [(NOW, "x")]))
        assert push(double.url, (APP, [(NOW, "x")]))[0] == 204
        assert (double.statuses(), double.stored_lines, double.sent_again) == ([503, 0, 204], ["x"], 1)


def test_missing_and_duplicate_lines_are_reported() -> None:
    assert_exactly_once(["a", "a", "b"], ["b", "a", "a"])
    with pytest.raises(AssertionError, match="1 of 2 lines are missing"):
        assert_exactly_once(["a", "b"], ["a"])
    with pytest.raises(AssertionError, match="1 lines are stored too often"):
        assert_exactly_once(["a"], ["a", "a"])
