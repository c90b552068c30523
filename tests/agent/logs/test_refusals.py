"""Loki's 400 responses are parsed, and the rejected entries are identified."""

from __future__ import annotations

from typing import Any

import pytest

from deckwatch.logs.loki.refusals import parse, pick

LABELS = {"job": "app"}
T = 1_700_000_000  # 2023-11-14T22:13:20Z
S = 10**9


def reasons(text: str, values: list[Any], labels: dict[str, str] | None = None) -> dict[int, str]:
    picked = pick(parse(text).items, [({"job": "other"}, [["1", "x"]]), (labels or LABELS, values)])
    assert all(stream == 1 for stream, _ in picked.reasons)
    return {place: reason for (_, place), reason in picked.reasons.items()}


# Texts of Loki 3.4 (pkg/validation/validate.go) and of 2.9, which began with "Max entry size".
@pytest.mark.parametrize("start", ["max", "Max"])
def test_a_line_that_is_too_long_is_identified_by_its_length(start: str) -> None:
    rest = "entry size '10' bytes exceeded for stream '{job=\"app\"}' while adding an entry with length '12' bytes"
    text = f"{start} {rest}"
    assert reasons(text, [["1", "short"], ["2", "éééééé"], ["3", "x" * 12]]) == {1: "line_too_long"}
    assert parse(text).final


def test_identical_errors_are_counted_together() -> None:
    stream = '{job="app", service_name="app"}'
    text = (
        f"2 errors like: entry for stream '{stream}' has timestamp too old: 2023-11-14T22:13:20Z, oldest acceptable "
        f"timestamp is: 2023-11-14T22:13:25Z; 1 errors like: entry for stream '{stream}' has timestamp too old: "
        "2023-11-14T22:13:25Z, oldest acceptable timestamp is: 2023-11-14T22:13:25Z; "
        f"1 errors like: entry for stream '{stream}' has timestamp too new: 2023-11-15T00:13:20+01:00\n"
    )
    values = [
        [str((T + 3600) * S + 5), "new"],
        [str((T + 3600) * S + 9), "newer"],
        [str(T * S + 1), "old"],
        [str((T + 5) * S + 800), "kept"],
        [str((T + 5) * S + 700), "just too old"],
        [str(T * S + 999_999_999), "old"],
    ]
    assert reasons(text, values) == {
        1: "too_far_in_future",
        2: "greater_than_max_sample_age",
        4: "greater_than_max_sample_age",
        5: "greater_than_max_sample_age",
    }


def test_an_ingester_error_lists_ten_times_and_the_total() -> None:
    listed = "".join(
        f"entry with timestamp 2023-11-14 22:13:20.{number:09d}".rstrip("0").rstrip(".")
        + " +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: 2023-11-14T22:13:20Z, "
        "oldest acceptable timestamp is: 2023-11-14T22:13:30Z',\n"
        for number in range(10)
    )
    text = listed + "user 'fake', total ignored: 12 out of 14 for stream: {job=\"app\"}"
    values = [[str(T * S + number), "x"] for number in range(12)]
    values.insert(4, [str((T + 40) * S), "kept"])
    values.append([str((T + 31) * S), "kept"])
    assert reasons(text, values) == dict.fromkeys([0, 1, 2, 3, *range(5, 13)], "too_far_behind")
    assert not parse(text).final


def test_an_ingester_in_another_time_zone_is_supported() -> None:
    text = (
        "entry with timestamp 2023-11-15 00:13:20.5 +0200 EET ignored, reason: 'entry out of order',\n"
        "user 'fake', total ignored: 1 out of 2 for stream: {job=\"app\"}"
    )
    assert reasons(text, [[str(T * S), "a"], [str(T * S + S // 2), "b"]]) == {1: "out_of_order"}


def test_a_stream_is_identified_by_labels_with_escaped_characters() -> None:
    labels = {"job": 'a "b" {c="d"} \\ é\x01\u2028', "x": "'"}
    name = '{job="a \\"b\\" {c=\\"d\\"} \\\\ é\\x01\\u2028", service_name="a", x="\'"}'
    assert reasons(f"stream '{name}' has label value too long: 'x'", [["1", "a"], ["2", "b"]], labels) == {
        0: "label_value_too_long",
        1: "label_value_too_long",
    }


def test_additional_labels_make_another_stream() -> None:
    assert reasons('entry for stream \'{job="app", x="y"}\' has 16 label names; limit 15', [["1", "a"]]) == {}


def test_entries_that_cannot_be_identified_are_counted_as_missing() -> None:
    text = "max entry size '10' bytes exceeded for stream '{job=\"app\"}' while adding an entry with length '12' bytes"
    assert pick(parse(text).items, [(LABELS, [["1", "x"]])]).missing == 1


@pytest.mark.parametrize(
    "text", ["", "couldn't parse labels: 1:2: parse error", "<html>Bad Request</html>", "{" * 1000]
)
def test_other_texts_describe_no_entries(text: str) -> None:
    assert parse(text).items == ()


def test_a_response_about_a_day_of_seconds_is_processed_in_time() -> None:
    number = 20_000
    text = "; ".join(
        "1 errors like: entry for stream '{job=\"app\"}' has timestamp too old: "
        f"2023-11-14T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z, "
        "oldest acceptable timestamp is: 2023-11-21T00:00:00Z"
        for n in range(number)
    )
    midnight = 1_699_920_000
    values = [[str((midnight + n) * S), "x"] for n in range(number)]
    assert len(reasons(text, values)) == number
