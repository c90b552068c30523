"""No part of a password is parsed as a host, a path or an option, and no error quotes one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from deckwatch.collection.registry import Registry
from deckwatch.config import Config, ConfigError, load_config
from deckwatch.config.problems import redacted, shown
from security.hostile_texts import BLOW_UP, PARTS, SIZE, cpu_seconds

if TYPE_CHECKING:
    from pathlib import Path

#: Parts that no output may contain.
PIECES = ("AAA", "BBB", "CCC")


def load(folder: Path, exporters: object, logs: object = None, environ: dict[str, str] | None = None) -> Config:
    config = folder / "deckwatch.yml"
    config.write_text(json.dumps({"exporters": exporters, **({"logs": logs} if logs else {})}))
    return load_config(config, environ or dict(os.environ), Registry.installed())


AMBIGUOUS_DSNS = [
    "postgresql://u:AAA@BBB@host/d",
    "postgresql://u:AAA/BBB@host/d",
    "postgresql://u:AAA?BBB@host/d",
    "postgresql://u:AAA#BBB@host/d",
    "postgresql://u:AAA]@[BBB@host/d",
    "postgresql://u:[AAA@host/d",
    "postgresql+psycopg://u:AAA@BBB@host/d",
    "postgresql://u:AAA BBB@host/d",
    "postgresql://host:AAA/d",
]
#: libpq parses PgBouncer DSNs when it connects.
MALFORMED_DSNS = ["postgresql://host/d?password=AAA&BBB", "host=h password=AAA BBB"]
AMBIGUOUS_LOKI_URLS = [
    "http://u:AAA/BBB@host:3100",
    "http://u:AAA?BBB@host:3100",
    "http://u:AAA#BBB@host:3100",
    "http://u:AAA@BBB@host:3100",
    "http://u:AAA]@[BBB@host:3100",
    "http://u:[AAA@host:3100",
    "http://u:AAA@[host:3100",
    "http://u:AAA",
    "http://[AAA",
    "http://AAA]",
    "http://u:AAA BBB@host",
    "http://u:AAA@host:99999",
    "http://:3100/AAA",
    "http:///AAA",
]
AMBIGUOUS_REDIS_URLS = [
    "redis://h?password=AAA&BBB",
    "redis://h/0?db=1&AAA=BBB",
    "redis://u:AAA/BBB@h",
    "redis://u:AAA?BBB@h",
    "redis://u:AAA#BBB@h",
    "redis://u:AAA]@[BBB@h:CCC",
    "redis://[AAA",
]


def _refused(folder: Path, exporters: object, logs: object = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, exporters, logs)
    text = str(caught.value)
    assert not any(piece in text for piece in PIECES), text
    return text


@pytest.mark.parametrize("dsn", AMBIGUOUS_DSNS)
@pytest.mark.parametrize("exporter", ["postgres", "pgbouncer"])
def test_an_ambiguous_dsn_is_rejected_without_being_quoted(tmp_path: Path, dsn: str, exporter: str) -> None:
    assert f"exporters.{exporter}[0].dsn" in _refused(tmp_path, {exporter: [{"name": "a", "dsn": dsn}]})


@pytest.mark.parametrize("dsn", MALFORMED_DSNS)
def test_a_malformed_dsn_is_rejected_without_being_quoted(tmp_path: Path, dsn: str) -> None:
    assert "exporters.postgres[0].dsn" in _refused(tmp_path, {"postgres": [{"name": "a", "dsn": dsn}]})


@pytest.mark.parametrize("url", AMBIGUOUS_LOKI_URLS)
def test_an_ambiguous_loki_url_is_rejected_without_being_quoted(tmp_path: Path, url: str) -> None:
    assert "logs.loki.url" in _refused(tmp_path, {}, {"loki": {"url": url}})
    assert "logs.loki[0].url" in _refused(tmp_path, {}, {"loki": [{"url": url}]})


@pytest.mark.parametrize("url", AMBIGUOUS_REDIS_URLS)
def test_an_ambiguous_redis_url_is_rejected_without_being_quoted(tmp_path: Path, url: str) -> None:
    assert "exporters.redis[0].url" in _refused(tmp_path, {"redis": [{"name": "a", "url": url}]})


@pytest.mark.parametrize("url", [*AMBIGUOUS_LOKI_URLS])
def test_an_invalid_url_from_the_environment_is_not_quoted(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"LOKI_URL": url}, Registry.installed())
    assert not any(piece in str(caught.value) for piece in PIECES)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p%40ss%2F@host:5432/d?application_name=x",
        "postgresql://u:pa:ss@host1:1,host2:2/d",
        "postgresql://u@[::1]:5432/d",
        "postgresql:///d?host=/run/postgresql&user=me%40tenant",
        "postgresql://%2Frun%2Fpostgresql/d",
        "postgresql://",
        "postgis://u:p@host/d",
        "host=h user=u password='a b'",
    ],
)
def test_unambiguous_dsns_are_accepted(tmp_path: Path, dsn: str) -> None:
    assert load(tmp_path, {"postgres": [{"name": "a", "dsn": dsn}]}).targets


@pytest.mark.parametrize(
    "url", ["http://u:p%40ss%2F@host:3100/loki?x=y", "https://[::1]:3100", "http://h", "https://u@h/prefix/"]
)
def test_unambiguous_urls_are_accepted(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, {}, {"loki": {"url": url}}).logs is not None


@pytest.mark.parametrize(
    ("exporters", "loki"),
    [
        ({"redis": [{"name": "a", "url": "redis://:AAA@h"}]}, None),
        ({"postgres": [{"name": "a", "dsn": "postgresql://u:AAA@h/d"}]}, None),
        ({"postgres": [{"name": "a", "dsn": "host=h password=AAA"}]}, None),
        ({"pgbouncer": [{"name": "a", "dsn": "postgresql://u:AAA@h/pgbouncer"}]}, None),
        ({}, {"url": "http://u:AAA@h"}),
    ],
)
@pytest.mark.parametrize("key", ["password", "password_file"])
def test_a_second_password_besides_that_in_the_url_is_rejected(
    tmp_path: Path, exporters: dict[str, list[dict[str, str]]], loki: dict[str, str] | None, key: str
) -> None:
    (tmp_path / "secret").write_text("BBB\n")
    extra = {key: "BBB" if key == "password" else str(tmp_path / "secret")}
    changed = {name: [{**target, **extra} for target in targets] for name, targets in exporters.items()}
    text = _refused(tmp_path, changed, {"loki": {**loki, **extra}} if loki else None)
    assert "only one of: a password in " in text
    assert "password (or password_file)" in text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("redis://u:AAA@h", "redis://***"),
        ("see redis://h?password=AAA&BBB", "see redis://***"),
        ("u:AAA@h:1", "***@h:1"),
        ("host=h password=AAA user=x", "host=h password=*** user=x"),
        ("my-api_key: 'AAA BBB'", "my-api_key: ***"),
        ("a plain text, 12:30", "a plain text, 12:30"),
    ],
)
def test_an_error_shows_a_text_without_its_secrets(text: str, clean: str) -> None:
    assert redacted(text) == clean


@pytest.mark.parametrize("part", [*PARTS, "pass", "pass-", "a:", "a:a@", "//", "://", "=", "pass ", "pass = "])
def test_no_config_value_slows_down_its_redaction(part: str) -> None:
    text = part * (SIZE // len(part))
    assert cpu_seconds(lambda: redacted(text)) < BLOW_UP
    assert shown(("x",), text) == "a text of more than 1000 characters"
