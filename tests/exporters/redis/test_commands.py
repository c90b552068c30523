"""Metrics by command: commandstats, latencystats, LATENCY HISTOGRAM and LATENCY LATEST."""

from __future__ import annotations

import pytest

from deckwatch_exporters.clients.redis.resp import Reader, Reply, ReplyError
from deckwatch_exporters.redis.commands import CommandStats
from deckwatch_exporters.redis.latency import spike_samples

from .stand_in import Answer, encode
from .support import by_series, malformed

GET = "calls=4,usec=1500000,usec_per_call=375000.00,rejected_calls=1,failed_calls=2"
HISTOGRAM = "redis_commands_latencies_usec"


def _reply(answer: Answer, protocol: int = 3) -> Reply:
    (reply,) = Reader().feed(encode(answer, protocol))
    return reply


@pytest.mark.parametrize(
    ("text", "expected", "odd"),
    [
        (GET, {"redis_commands_total": 4, "redis_commands_duration_seconds_total": 1.5}, []),
        ("usec=1000000,new=1,calls=2", {"redis_commands_total": 2, "redis_commands_duration_seconds_total": 1}, []),
        ("calls=21", {"redis_commands_total": 21}, []),
        ("calls=x,usec=1000000", {"redis_commands_duration_seconds_total": 1}, [("get: calls", "x")]),
        ("calls=-1,usec=1000000", {"redis_commands_duration_seconds_total": 1}, [("get: calls", "-1")]),
        ("calls=18446744073709551615", {}, [("get: calls", "18446744073709551615")]),
        ("calls=(null),calls=3", {"redis_commands_total": 3}, []),
        ("calls=", {}, [("get: calls", "")]),
        ("", {}, [("get", "")]),
    ],
)
def test_a_malformed_command_field_affects_only_its_series(
    text: str, expected: dict[str, float], odd: list[tuple[str, str]]
) -> None:
    found = list(CommandStats().from_info({"get": text}, {}))
    values = {name.partition("{")[0]: value for name, value in by_series(found).items()}
    assert values.items() >= expected.items()
    assert values.keys() & {"redis_commands_total", "redis_commands_duration_seconds_total"} == expected.keys()
    assert malformed(found) == [(f"INFO commandstats: {what}", value) for what, value in odd]


def test_a_command_has_the_counters_of_its_server_version() -> None:
    found = by_series(CommandStats().from_info({"get": GET, "config|set": "calls=1,usec=8", "odd": "?"}, {}))
    assert found == {
        'redis_commands_total{cmd="get"}': 4,
        'redis_commands_duration_seconds_total{cmd="get"}': 1.5,
        'redis_commands_rejected_calls_total{cmd="get"}': 1,
        'redis_commands_failed_calls_total{cmd="get"}': 2,
        'redis_commands_total{cmd="config|set"}': 1,
        'redis_commands_duration_seconds_total{cmd="config|set"}': 8e-6,
    }


@pytest.mark.parametrize(
    ("text", "expected", "odd"),
    [
        ("p50=0.001,p99=1.003,p99.9=4.015", {"50": 0.001, "99": 1.003, "99.9": 4.015}, []),
        ("p50=nan,p99=1", {"99": 1.0}, []),
        ("50=1,p=2,px=3,p75", {}, ["50=1", "p=2", "px=3"]),
        ("p50=?,p99=1,p100=-3", {"99": 1.0}, ["p50=?", "p100=-3"]),
        ("p75", {}, ["p75"]),
    ],
)
def test_percentiles_are_parsed_by_percent(text: str, expected: dict[str, float], odd: list[str]) -> None:
    found = list(CommandStats().from_info({"get": GET}, {"get": text}))
    assert (
        by_series(found).items()
        >= {
            f'redis_latency_percentiles_usec{{cmd="get",quantile="{percent}"}}': value
            for percent, value in expected.items()
        }.items()
    )
    assert len([name for name in by_series(found) if "quantile" in name]) == len(expected)
    assert malformed(found) == [("INFO latencystats: get", value) for value in odd]


def test_percentiles_are_a_summary_with_count_and_sum_from_commandstats() -> None:
    found = by_series(CommandStats().from_info({"get": GET}, {"get": "p50=1.5,p99.9=4.015", "never": "p50=1"}))
    assert {text: value for text, value in found.items() if text.startswith("redis_latency")} == {
        'redis_latency_percentiles_usec{cmd="get",quantile="50"}': 1.5,
        'redis_latency_percentiles_usec{cmd="get",quantile="99.9"}': 4.015,
        'redis_latency_percentiles_usec_sum{cmd="get"}': 1_500_000,
        'redis_latency_percentiles_usec_count{cmd="get"}': 4,
    }


def test_idle_commands_keep_their_values_and_called_or_reset_ones_are_updated() -> None:
    figures = CommandStats()
    first = list(figures.from_info({"get": GET, "set": "calls=1,usec=1"}, {"get": "p50=1"}))
    same = list(figures.from_info({"get": GET, "set": "calls=1,usec=1"}, {"get": "p50=1"}))
    assert same == first
    moved = by_series(figures.from_info({"get": GET, "set": "calls=2,usec=3"}, {"get": "p50=2"}))
    assert moved['redis_commands_total{cmd="set"}'] == 2
    assert moved['redis_latency_percentiles_usec{cmd="get",quantile="50"}'] == 2
    assert list(figures.from_info({}, {})) == []
    assert list(figures.from_info({"get": GET, "set": "calls=1,usec=1"}, {"get": "p50=1"})) == first


@pytest.mark.parametrize("protocol", [2, 3])
def test_histogram_buckets_are_cumulative_and_the_last_one_has_all_calls(protocol: int) -> None:
    figures = CommandStats()
    list(figures.from_info({"get": GET}, {}))
    reply = _reply({"get": {"calls": 5, "histogram_usec": {1: 2, 2: 3, 1024: 4}}}, protocol)
    assert by_series(figures.from_histogram(reply)) == {
        f'{HISTOGRAM}_bucket{{cmd="get",le="1.0"}}': 2,
        f'{HISTOGRAM}_bucket{{cmd="get",le="2.0"}}': 3,
        f'{HISTOGRAM}_bucket{{cmd="get",le="1024.0"}}': 4,
        f'{HISTOGRAM}_bucket{{cmd="get",le="+Inf"}}': 5,
        f'{HISTOGRAM}_sum{{cmd="get"}}': 1_500_000,
        f'{HISTOGRAM}_count{{cmd="get"}}': 5,
    }


def test_a_histogram_is_updated_if_its_counts_or_its_sum_change() -> None:
    figures = CommandStats()

    def run(usec: int, calls: int) -> dict[str, float]:
        list(figures.from_info({"get": f"calls={calls},usec={usec}"}, {}))
        return by_series(figures.from_histogram(_reply({"get": {"calls": calls, "histogram_usec": {1: calls}}})))

    name = f'{HISTOGRAM}_sum{{cmd="get"}}', f'{HISTOGRAM}_count{{cmd="get"}}'
    runs = [run(5, 1), run(5, 1), run(7, 1), run(7, 2)]
    assert [(found[name[0]], found[name[1]]) for found in runs] == [(5, 1), (5, 1), (7, 1), (7, 2)]


def test_a_container_command_has_the_sum_over_its_subcommands() -> None:
    figures = CommandStats()
    commands = {"config|get": "calls=1,usec=3", "config|set": "calls=1,usec=4", "configure": "calls=1,usec=9"}
    list(figures.from_info(commands, {}))
    reply = _reply({"config": {"calls": 2, "histogram_usec": {4: 2}}})
    assert by_series(figures.from_histogram(reply))[f'{HISTOGRAM}_sum{{cmd="config"}}'] == 7


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "a string",
        [],
        ["get"],
        {"get": None},
        {"get": {}},
        {"get": {"calls": 1}},
        {"get": {"calls": "x", "histogram_usec": {1: 1}}},
        {"get": {"calls": 1, "histogram_usec": "x"}},
        {"never-told": {"calls": 1, "histogram_usec": {1: 1}}},
    ],
    ids=repr,
)
def test_a_reply_that_is_not_a_histogram_affects_only_itself(answer: Answer) -> None:
    figures = CommandStats()
    list(figures.from_info({"get": GET, "set": "calls=1,usec=2"}, {}))
    assert by_series(figures.from_histogram(_reply(answer))) == {}
    good: dict[str, Answer] = {"set": {"calls": 1, "histogram_usec": {2: 1}}}
    both = _reply({**answer, **good} if isinstance(answer, dict) else good)
    assert by_series(figures.from_histogram(both)) == by_series(figures.from_histogram(_reply(good)))


@pytest.mark.parametrize("details", [None, {}, {"calls": 1}, {"calls": "x", "histogram_usec": {1: 1}}], ids=repr)
def test_a_malformed_histogram_is_counted(details: Answer) -> None:
    figures = CommandStats()
    list(figures.from_info({"get": GET}, {}))
    found = malformed(figures.from_histogram(_reply({"get": details})))
    assert [what for what, _ in found] == ["LATENCY HISTOGRAM: get"]


def test_buckets_that_are_not_numbers_are_skipped() -> None:
    figures = CommandStats()
    list(figures.from_info({"get": GET}, {}))
    found = by_series(
        figures.from_histogram(_reply({"get": {"calls": 1, "histogram_usec": {"x": 1, "2": 1, 4: None, 8: 0, 16: 5}}}))
    )
    assert [text for text in found if "_bucket" in text] == [
        f'{HISTOGRAM}_bucket{{cmd="get",le="2.0"}}',
        f'{HISTOGRAM}_bucket{{cmd="get",le="+Inf"}}',
    ]


def test_the_latest_spike_of_each_event_is_exported_in_seconds() -> None:
    reply: Reply = [[b"command", 1795248440, 20, 35], [b"fork", 1795248400, 1500, 1500, 3, 7]]
    assert by_series(spike_samples(reply)) == {
        'redis_latency_spike_last{event_name="command"}': 1795248440,
        'redis_latency_spike_duration_seconds{event_name="command"}': 0.02,
        'redis_latency_spike_last{event_name="fork"}': 1795248400,
        'redis_latency_spike_duration_seconds{event_name="fork"}': 1.5,
    }


@pytest.mark.parametrize(
    "entry", [1, [b"command", 1], [b"", 1, 2, 3], [1, 2, 3], [b"x", b"?", b"?"], ReplyError("ERR")], ids=repr
)
def test_a_malformed_spike_affects_only_itself(entry: Reply) -> None:
    good: Reply = [b"command", 1795248440, 20, 35]
    found = list(spike_samples([entry, good]))
    assert by_series(found) == by_series(spike_samples([good]))
    assert {what.partition(":")[0] for what, _ in malformed(found)} == {"LATENCY LATEST"}


def test_a_latency_reply_that_is_not_a_list_is_malformed_unless_it_was_not_requested() -> None:
    assert malformed(spike_samples(b"?")) == [("LATENCY LATEST", "?")]
    assert list(spike_samples(None)) == []
    assert list(spike_samples([])) == []
