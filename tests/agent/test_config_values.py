"""Durations, sizes, the editor schema and reload differences: property tests and a complete example file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, RootModel, TypeAdapter

from deckwatch.collection.registry import Registry
from deckwatch.config import (
    Config,
    Duration,
    DurationOrZero,
    Secret,
    Settings,
    Size,
    changed,
    json_schema,
    load_config,
    parse_duration,
    parse_size,
)
from deckwatch.exporter import Exporter, Target


class Statements(Settings):
    top: int = 20
    token: Secret | None = None


class DatabaseSettings(Settings):
    dsn: str
    password: Secret | None = None
    statements: Statements = Statements()
    keep: DurationOrZero = 0.0
    at_most: Size = 0


class CelerySettings(Settings):
    kind: Literal["celery"]
    url: str
    queues: tuple[str, ...] = ()


class SqlSettings(Settings):
    kind: Literal["sql"]
    dsn: str
    secret: Secret


class QueueSettings(RootModel[Annotated[CelerySettings | SqlSettings, Field(discriminator="kind")]]):
    pass


class HostSettings(Settings):
    procfs: str = "/proc"


POSTGRES = Exporter("postgres", DatabaseSettings, lambda _s, _c: Target({}), named=True)
QUEUES = Exporter("queues", QueueSettings, lambda _s, _c: Target({}), named=True)
HOST = Exporter("system", HostSettings, lambda _s, _c: Target({}))
REGISTRY = Registry(
    {
        "postgres": (f"{__name__}:POSTGRES", "tests"),
        "queues": (f"{__name__}:QUEUES", "tests"),
        "system": (f"{__name__}:HOST", "tests"),
    }
)

EXAMPLE = """\
listen: 127.0.0.1:9797
web_config: web.yml
interval: 15s
thresholds:
  cpu_ratio: 0.80
  process_memory_bytes: 512MiB
  slow_query: 1s
  cache_hit_ratio: 0.80
exporters:
  system: {}
  postgres:
    - {name: main, dsn: "postgresql://monitor@127.0.0.1/app", statements: {top: 50}, interval: 1m30s, keep: 0}
    - {name: "replica-${ZONE:-a}", dsn: "postgresql://b/app", max_series: "${MAX:-500}", at_most: 1.5GiB}
  queues:
    - {name: tasks, kind: celery, url: "redis://127.0.0.1:6379/0", queues: [celery, emails]}
    - {name: outbox, kind: sql, dsn: "...", secret_file: secret}
"""

DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZE_UNITS = {"": 1, "B": 1, "k": 1000, "MB": 10**6, "GiB": 2**30, "KiB": 2**10, "TiB": 2**40, "P": 10**15}


@given(st.lists(st.tuples(st.integers(1, 999), st.sampled_from(sorted(DURATION_UNITS))), min_size=1, max_size=4))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)

    assert parse_duration(text) == pytest.approx(sum(number * DURATION_UNITS[unit] for number, unit in parts))


@given(st.integers(0, 8000), st.sampled_from(sorted(SIZE_UNITS)))
def test_a_size_is_exactly_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * SIZE_UNITS[unit]


@given(st.integers(0, 2**63 - 1))
def test_a_number_of_bytes_is_exact_as_a_number_and_as_text(number: int) -> None:
    assert parse_size(number) == parse_size(str(number)) == number


@given(st.one_of(st.text("0123456789.smhdwMGkKiB ", max_size=8), st.text(), st.integers(), st.floats(), st.none()))
def test_any_value_is_a_valid_duration_or_size_or_raises_a_value_error(value: Any) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = 1.0
    try:
        size = parse_size(value)
    except ValueError:
        size = 0

    assert 0 < seconds <= 100 * 365 * 86400
    assert 0 <= size < 2**63


@given(st.text("0123456789.smhdwMGkKiB", max_size=6))
def test_the_schema_accepts_the_same_durations_and_sizes_as_the_agent(text: str) -> None:
    for kind in (Duration, DurationOrZero, Size):
        adapter: TypeAdapter[float] = TypeAdapter(kind)
        try:
            adapter.validate_python(text)
        except ValueError:
            continue
        jsonschema.validate(text, adapter.json_schema())


@pytest.mark.parametrize("value", [10**400, 1e300, float("inf"), "9" * 400 + "d"])
def test_a_duration_longer_than_timers_support_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match="a duration of at most 100 years"):
        parse_duration(value)


@pytest.mark.parametrize("value", [2**63, 10**400, "9" * 400, "9" * 29 + "k", "8EiB", "1.5", "0.5B"])
def test_sizes_beyond_the_largest_file_and_fractions_of_a_byte_are_rejected(value: object) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        parse_size(value)


def _load(folder: Path, text: str) -> Config:
    (folder / "secret").write_text("hunter2\n")
    (folder / "deckwatch.yml").write_text(text)
    return load_config(folder / "deckwatch.yml", {}, REGISTRY)


def _refuses(document: Any) -> bool:
    return not jsonschema.Draft202012Validator(json_schema(REGISTRY.loadable()[0])).is_valid(document)


def test_the_agent_and_the_schema_accept_the_example(tmp_path: Path) -> None:
    config = _load(tmp_path, EXAMPLE)

    assert [(target.exporter, target.name, target.interval, target.max_series) for target in config.targets] == [
        ("system", "", None, None),
        ("postgres", "main", 90, None),
        ("postgres", "replica-a", None, 500),
        ("queues", "tasks", None, None),
        ("queues", "outbox", None, None),
    ]
    outbox = config.targets[-1].settings
    assert isinstance(outbox, QueueSettings)
    assert isinstance(outbox.root, SqlSettings)
    assert outbox.root.secret.get_secret_value() == "hunter2"
    jsonschema.Draft202012Validator.check_schema(json_schema(REGISTRY.loadable()[0]))
    assert not _refuses(yaml.safe_load(EXAMPLE))


def _postgres(**settings: Any) -> dict[str, Any]:
    return {"exporters": {"postgres": [{"name": "a", "dsn": "x", **settings}]}}


def _queue(**settings: Any) -> dict[str, Any]:
    return {"exporters": {"queues": [{"name": "a", **settings}]}}


@pytest.mark.parametrize(
    "document",
    [
        _postgres(statements={"token_file": "p", "top": "${TOP}"}),
        _postgres(name="${HOSTNAME}", max_series="${MAX}", interval="${I:-5s}", at_most="${SIZE}"),
        {"enable_lifecycle": "${LIFECYCLE}", "thresholds": {"cpu_ratio": "${RATIO:-0.5}"}},
        {"exporters": None},
        {"exporters": {"system": None}},
        _queue(kind="sql", dsn="x", secret="s", interval="1h"),
    ],
)
def test_the_schema_accepts_references_secret_files_and_common_keys(document: dict[str, Any]) -> None:
    assert not _refuses(document)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"listen": 5},
        {"enable_lifecycle": "perhaps"},
        {"thresholds": {"cpu_ratio": 80}},
        {"thresholds": {"our_own": 1}},
        {"exporters": {"postgers": []}},
        {"exporters": {"postgres": {"name": "a", "dsn": "x"}}},
        {"exporters": {"postgres": [{"dsn": "x"}]}},
        _postgres(name="not a name"),
        _postgres(interval="soon"),
        _postgres(interval=0),
        _postgres(at_most="1.5"),
        _postgres(password="a", password_file="b"),
        _postgres(statements={"top": True}),
        _postgres(statements={"odd": 1}),
        _queue(kind="celery"),
        _queue(kind="sql", dsn="x"),
        _queue(kind="sql", dsn="x", secret="s", secret_file="f"),
        _queue(kind="kafka", url="x"),
    ],
)
def test_the_schema_rejects_what_the_agent_rejects(document: Any, tmp_path: Path) -> None:
    assert _refuses(document)
    (tmp_path / "b").write_text("x")
    (tmp_path / "f").write_text("x")
    with pytest.raises(Exception, match=r"deckwatch\.yml:\d+: "):
        _load(tmp_path, yaml.safe_dump(document))


def test_a_reload_reports_added_removed_changed_and_unchanged_targets(tmp_path: Path) -> None:
    def targets(*named: str) -> Config:
        listed = ", ".join(f"{{{target}}}" for target in named)
        return _load(tmp_path, f"exporters: {{system: {{}}, postgres: [{listed}]}}")

    old = targets("name: a, dsn: x", "name: b, dsn: x", "name: c, dsn: x", "name: d, dsn: x")
    new = targets("name: d, dsn: x", "name: a, dsn: x", "name: b, dsn: x, interval: 9s", "name: e, dsn: x")

    difference = changed(old, new)

    assert [target.name for target in difference.removed] == ["b", "c"]
    assert [target.name for target in difference.added] == ["b", "e"]
    assert [(before.interval, after.interval) for before, after in difference.changed] == [(None, 9.0)]
    assert [target.name for target in difference.unchanged] == ["", "d", "a"]


def test_a_changed_secret_file_changes_its_target(tmp_path: Path) -> None:
    text = "exporters: {postgres: [{name: a, dsn: x, password_file: own}]}"
    (tmp_path / "own").write_text("one")
    old = _load(tmp_path, text)
    (tmp_path / "own").write_text("two")

    assert [target.name for target in changed(old, _load(tmp_path, text)).added] == ["a"]
