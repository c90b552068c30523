"""What each setting of `logs.files` does to lines: one real agent, one file for each case, and what Loki stores."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.config.log_settings import FileSettings
from log_shipping import config, shipper
from loki import Double, loki
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = "2026-11-21T12:00:00Z"


@dataclass(frozen=True)
class Case:
    """A file, the settings of its rule, and what is stored: text, labels, metadata, and times where they are known."""

    settings: dict[str, Any]
    content: str | bytes
    lines: list[str]
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    times: list[str] = field(default_factory=list)
    tenant: str = "main"


def of(*records: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


PYTHON_LINE = r"^(?P<level>[A-Z]+):(?P<logger>[^:]+):(?P<rest>.*)$"
LOGURU = {"text": "x", "record": {"level": {"name": "ERROR"}, "time": {"repr": NOON}, "extra": {"order": 7}}}
LOG4J2 = {"instant": {"epochSecond": 1795262400, "nanoOfSecond": 5000}, "level": "WARN", "message": "full"}
ECS = {"@timestamp": NOON, "log.level": "error", "message": "no", "labels": {"team": "a"}, "tags": ["web", "eu"]}
WRAPPED = [{"log": f"level=warn msg={text}\n", "stream": "stdout", "time": NOON} for text in ("a", "b")]

CASES = {
    "format json": Case({}, of({"level": "WARN", "timestamp": NOON}), [of({"level": "WARN", "timestamp": NOON})[:-1]],
                        {"level": "warning"}, times=[NOON]),
    "format logfmt": Case({"format": "logfmt"}, "level=warn msg=a\n", ["level=warn msg=a"], {"level": "warning"}),
    "format raw": Case({"format": "raw"}, '{"level": "warn"}\n', ['{"level": "warn"}']),
    "format regex": Case({"format": "regex", "pattern": PYTHON_LINE, "label_fields": {"logger": "logger"}},
                         "INFO:app:started\n", ["INFO:app:started"], {"logger": "app"}),
    "cri with logfmt": Case({"format": "cri", "inner_format": "logfmt"}, f"{NOON} stderr F level=warn msg=a\n",
                            ["level=warn msg=a"], {"level": "warning"}, {"stream": "stderr"}, [NOON]),
    "docker with regex": Case(
        {"format": "docker", "inner_format": "regex", "pattern": "^level=(?P<level>[a-z]+)"}, of(*WRAPPED),
        ["level=warn msg=a", "level=warn msg=b"], {"level": "warning"}, {"stream": "stdout"}, [NOON]),
    "docker with JSON": Case(
        {"format": "docker", "inner_format": "json"},
        of({"log": '{"level":"error","ts":"2026-11-21T11:00:00Z"}\n', "stream": "stdout", "time": NOON}),
        ['{"level":"error","ts":"2026-11-21T11:00:00Z"}'], {"level": "error"}, {"stream": "stdout"}, [NOON]),
    "the line's time instead of the runtime's": Case(
        {"format": "docker", "time_field": ["ts"]},
        of({"log": '{"ts":"2026-11-21T11:00:00Z"}\n', "stream": "stdout", "time": NOON}),
        ['{"ts":"2026-11-21T11:00:00Z"}'], {}, {"stream": "stdout"}, ["2026-11-21T11:00:00Z"]),
    "regex, then JSON": Case(
        {"format": "regex", "pattern": PYTHON_LINE, "parse": [{"field": "rest", "format": "json"}],
         "label_fields": {"level": "level", "event": "event"}},
        f'ERROR:app:{{"event": "paid", "ts": "{NOON}"}}\n', [f'ERROR:app:{{"event": "paid", "ts": "{NOON}"}}'],
        {"level": "error", "event": "paid"}, times=[NOON]),
    "JSON, then logfmt, then regex": Case(
        {"parse": [{"field": "log.text", "format": "logfmt"}, {"field": "who", "format": "regex",
                                                              "pattern": "^(?P<user_id>[0-9]+)"}]},
        of({"log": {"text": "level=error who=12/eu"}}), [of({"log": {"text": "level=error who=12/eu"}})[:-1]],
        {"level": "error"}, {"user_id": "12"}),
    "dotted names": Case({"level_field": ["record.level.name"], "time_field": ["record.time.repr"]},
                         of(LOGURU), [of(LOGURU)[:-1]], {"level": "error"}, times=[NOON]),
    "JMESPath": Case(
        {"fields": {"level": '"log.level"', "team": "labels.team", "first": "tags[0]", "all": "join('+', tags)"},
         "label_fields": {"level": "level", "team": "team", "tag": "first"}, "metadata_fields": ["all"]},
        of(ECS), [of(ECS)[:-1]], {"level": "error", "team": "a", "tag": "web"}, {"all": "web+eu"}, [NOON]),
    "log4j2's instant": Case({"time_field": ["instant"]}, of(LOG4J2), [of(LOG4J2)[:-1]], {"level": "warning"},
                             times=["2026-11-21T12:00:00.000005Z"]),
    "time zone": Case({"format": "regex", "pattern": r"^(?P<time>\S+ \S+) ", "timezone": "America/New_York"},
                      "2026-07-01 08:00:00,5 summer\n2026-11-21 07:00:00,250 winter\n",
                      ["2026-07-01 08:00:00,5 summer", "2026-11-21 07:00:00,250 winter"],
                      times=["2026-07-01T12:00:00.500Z", "2026-11-21T12:00:00.250Z"]),
    "time format in a time zone": Case(
        {"format": "regex", "pattern": r"^(?P<time>\S+ \S+) ", "timezone": "Asia/Tokyo",
         "time_format": "%d.%m.%Y %H:%M"}, "21.11.2026 21:00 hello\n", ["21.11.2026 21:00 hello"], times=[NOON]),
    "latin-1": Case({"format": "raw", "encoding": "latin-1"}, "Käse\n".encode("latin-1"), ["Käse"]),
    "UTF-16 of Windows": Case({"encoding": "utf-16"}, '{"level":"warn","m":"Ωਊ"}\r\n{"m":"ਊ"}\r\n'.encode("utf-16"),
                              ['{"level":"warn","m":"Ωਊ"}', '{"m":"ਊ"}']),
    "UTF-16 with the higher byte first": Case(
        {"encoding": "utf-16", "format": "raw"}, b"\xfe\xff" + "aਊ\nb\n".encode("utf-16-be"), ["aਊ", "b"]),
    "utf-16-be": Case({"encoding": "UTF-16BE", "format": "raw"}, "aਊ\nb\n".encode("utf-16-be"), ["aਊ", "b"]),
    "UTF-16 that is cut": Case({"encoding": "utf-16", "format": "raw", "max_line_bytes": 61},
                               ("a" * 50 + "\nb\n").encode("utf-16-le"), ["a" * 30 + " [cut, 40 bytes missing]", "b"]),
    "a byte order mark": Case({}, b"\xef\xbb\xbf" + b'{"level":"warn"}\n', ['{"level":"warn"}'],
                              {"level": "warning"}),
    "shift_jis": Case({"encoding": "shift_jis"}, '{"level":"warn","m":"表示"}\n'.encode("shift_jis"),
                      ['{"level":"warn","m":"表示"}'], {"level": "warning"}),
    "colors": Case({"format": "logfmt", "decolorize": True}, "\x1b[33mlevel=warn\x1b[0m msg=\x1b[1ma\x1b[0m\n",
                   ["level=warn msg=a"], {"level": "warning"}),
    "output": Case({"output": "{level} {{{logger}}} {log.text}: {tags}"},
                   of({"level": "WARN", "logger": "app", "log": {"text": "é"}, "tags": ["a"]}),
                   ['warning {app} é: ["a"]'], {"level": "warning"}),
    "output of a line without its fields": Case({"output": "{message}"}, of({"m": 1}) + "no JSON\n",
                                                ['{"m": 1}', "no JSON"]),
    "output is redacted": Case({"output": "{message}", "redact": [{"kind": "email"}]},
                               of({"message": "from ann@example.org", "level": "info"}), ["from ***"],
                               {"level": "info"}),
    "tenant": Case({"tenant_field": "team", "labels": {"app": "x"}}, of({"team": "blue"}), ['{"team": "blue"}'],
                   {"app": "x"}, tenant="blue"),
    "a tenant that Loki refuses": Case({"tenant_field": "team"}, of({"team": "a|b\r\nX: y"}),
                                       [of({"team": "a|b\r\nX: y"})[:-1]]),
    "levels unchanged": Case({"levels": "unchanged"}, of({"level": "WARN"}), ['{"level": "WARN"}'],
                             {"level": "WARN"}),
    "levels of Python": Case({"levels": "python"}, of({"level": 30}), ['{"level": 30}'], {"level": "warning"}),
    "multiline": Case({"format": "raw", "multiline": {"first_line": "^[0-9]", "max_wait": "100ms"}},
                      "1 a\n  b\n2 c\n", ["1 a\n  b", "2 c"]),
    "path_labels": Case({"format": "raw", "path_labels": "/(?P<folder>[^/]+)/[^/]+[.]log$"}, "a\n", ["a"],
                        {"folder": "path_labels"}),
    "metadata_fields": Case({"metadata_fields": ["order.id"]}, of({"order": {"id": 7}}), ['{"order": {"id": 7}}'],
                            metadata={"order_id": "7"}),
    "keep": Case({"format": "raw", "keep": [{"matches": "^a"}]}, "a\nb\n", ["a"]),
    "drop": Case({"format": "raw", "drop": [{"matches": "^a"}]}, "a\nb\n", ["b"]),
    "drop by several fields": Case(
        {"format": "logfmt", "drop": [{"match": {"path": "^/health$", "status": "^2"}}]},
        "path=/health status=200\npath=/health status=500\npath=/ status=200\n",
        ["path=/health status=500", "path=/ status=200"]),
    "drop by age and size": Case(
        {"drop": [{"older_than": "100d", "matches": "old"}, {"longer_than": 60}]},
        of({"ts": "2025-01-01T00:00:00Z", "m": "old"}, {"ts": "2025-01-01T00:00:00Z", "m": "kept"}, {"m": "x" * 60}),
        ['{"ts": "2025-01-01T00:00:00Z", "m": "kept"}']),
    "redact a group": Case({"format": "raw", "redact": [{"matches": "pin=(?P<secret>[0-9]+)( |$)"}]},
                           "pin=12 pin=x pin=345\n", ["pin=*** pin=x pin=***"]),
    "sample": Case({"sample": [{"level": "debug", "ratio": 0}]}, of({"level": "debug"}, {"level": "info"}),
                   ['{"level": "info"}'], {"level": "info"}),
    "max_line_bytes": Case({"format": "raw", "max_line_bytes": 40}, "a" * 50 + "\n",
                           ["a" * 16 + " [cut, 34 bytes missing]"], metadata={"deckwatch_cut": "34"}),
}  # fmt: skip
#: Settings with tests in other files, where the agent is stopped, or measured, or files come and go.
ELSEWHERE = {
    "path": "everywhere",
    "labels": "everywhere",
    "start_at": "tests/integration/test_logs_start.py",
    "ignore_older": "tests/integration/test_logs_start.py",
    "exclude": "tests/agent/logs/test_discovery.py",
    "filename_label": "tests/integration/test_logs_order.py",
    "metrics": "tests/integration/test_log_metrics.py",
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    """Loki, after an agent has shipped all files."""
    folder = tmp_path_factory.mktemp("options")
    rules = []
    for name, case in CASES.items():
        path = folder / name.replace(" ", "_") / "a.log"
        path.parent.mkdir()
        path.write_bytes(case.content.encode() if isinstance(case.content, str) else case.content)
        labels = {"job": name, **case.settings.get("labels", {})}
        rules.append({"path": str(path), "filename_label": False, **case.settings, "labels": labels})
    any_time: dict[str, Any] = {"max_age": 1e12, "future": 1e12, "behind": 1e12}  # the files have fixed times
    with (
        loki(tenant="main", **any_time) as double,
        shipper(folder, config([{"url": double.url, "tenant": "main"}], rules)),
    ):
        wanted = sum(len(case.lines) for case in CASES.values())
        until(lambda: sum(len(found(double, name)) for name in CASES) >= wanted, what=f"{wanted} lines")
        yield double


def found(double: Double, name: str) -> list[tuple[int, str, dict[str, str], dict[str, str]]]:
    """The entries of a case, in the order of the file: nanoseconds, text, labels, metadata."""
    with double.lock:
        streams = double.store(CASES[name].tenant).streams
        return [
            (moment, text, {key: value for key, value in labels if key != "job"}, dict(metadata))
            for labels, stream in streams.items()
            for moment, text, metadata in stream.entries
            if dict(labels)["job"] == name
        ]


@pytest.mark.parametrize("name", CASES)
def test_a_setting_does_what_its_documentation_says(name: str, stored: Double) -> None:
    case, entries = CASES[name], found(stored, name)

    assert [text for _, text, _, _ in entries] == case.lines
    assert entries[-1][2:] == (case.labels, case.metadata)
    times = [int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 10**6) for text in case.times]
    assert [moment // 1000 for moment, _, _, _ in entries][: len(times)] == times


def test_every_setting_of_files_has_a_test() -> None:
    tested = {key for case in CASES.values() for key in case.settings}

    assert set(FileSettings.model_fields) - tested == set(ELSEWHERE) - tested
