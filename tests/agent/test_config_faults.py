"""Errors in a config file: each is reported at its location, in plain words and without secrets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Discriminator, Field, Tag, field_validator

from deckwatch.collection.registry import Registry
from deckwatch.config import (
    Config,
    ConfigError,
    Duration,
    RegistryError,
    Secret,
    Settings,
    Size,
    find_config,
    load_config,
)
from deckwatch.exporter import Exporter, FromEnvironment, Target


class TlsSettings(Settings):
    ca: str = ""
    phrase: Secret | None = None


class RedisBroker(Settings):
    kind: Literal["redis"]
    database: int


class SqlBroker(Settings):
    kind: Literal["sql"]
    query: str


class PlainKafka(Settings):
    kind: Literal["kafka"]
    topic: str


class SecureKafka(Settings):
    kind: Literal["kafka"]
    topics: tuple[str, ...]


Kafka = Annotated[
    Annotated[PlainKafka, Tag("PlainKafka")] | Annotated[SecureKafka, Tag("SecureKafka")],
    Discriminator(lambda value: "SecureKafka" if "topics" in value else "PlainKafka"),
]


class BrokerSettings(Settings):
    url: str
    auth: Annotated[Secret, Field(min_length=8)] | None = None
    password: Secret | None = None
    key: Secret | None = None
    key_file: str | None = None
    timeout: Duration = 2.0
    limit: Size = 5
    count: int = 1
    tls: TlsSettings | None = None
    peers: dict[str, TlsSettings] = Field(default_factory=dict)
    by_kind: Annotated[RedisBroker | SqlBroker, Field(discriminator="kind")] | None = None
    nested: Annotated[RedisBroker | Kafka, Field(discriminator="kind")] | None = None
    by_shape: RedisBroker | SqlBroker | None = None
    mixed: int | tuple[int, ...] | None = None
    words: tuple[str, ...] = ()

    @field_validator("words")
    @classmethod
    def _never(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if words:
            raise ValueError(f"other words\nthan {', '.join(words)}")
        return words


class VaultSettings(Settings):
    token: Secret
    lease: Duration


class HostSettings(Settings):
    pass


BROKER = Exporter(
    "broker", BrokerSettings, lambda _s, _c: Target({}), named=True, from_environment=FromEnvironment("BROKER_URL")
)
VAULT = Exporter("vault", VaultSettings, lambda _s, _c: Target({}), from_environment=FromEnvironment("VAULT_URL"))
HOST = Exporter("system", HostSettings, lambda _s, _c: Target({}))
PUBLISHED = {
    "broker": (f"{__name__}:BROKER", "tests"),
    "vault": (f"{__name__}:VAULT", "tests"),
    "system": (f"{__name__}:HOST", "tests"),
}
REGISTRY = Registry(PUBLISHED)


def _load(folder: Path, text: str, environ: dict[str, str] | None = None, registry: Registry = REGISTRY) -> Config:
    file = folder / "deckwatch.yml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ or {}, registry)


def _faults(folder: Path, text: str, environ: dict[str, str] | None = None, registry: Registry = REGISTRY) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, environ, registry)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.problems)
    return [line.removeprefix(f"{folder}/deckwatch.yml:") for line in lines]


def _broker(settings: str) -> str:
    return f"exporters:\n  broker:\n    - name: a\n      url: x\n      {settings}\n"


def _settings(folder: Path, settings: str, environ: dict[str, str] | None = None) -> BrokerSettings:
    loaded = _load(folder, _broker(settings), environ).targets[0].settings
    assert isinstance(loaded, BrokerSettings)
    return loaded


# Secrets


@pytest.mark.parametrize(
    "settings",
    [
        "auth: hunter2",
        "auth: [hunter2]",
        "password: !!int hunter2",
        "password: !hunter2 x",
        "password: *hunter2",
        "password: 'ab${hunter2'",
        "password: 'ab${hunter2!}'",
        "password: {a: hunter2}",
        "timeout: redis://user:pa/hunter2@host",
        "timeout: redis://user:pa@hunter2@host",
        "timeout: 'redis://user:pa hunter2@host'",
        "timeout: user:hunter2@host",
        "timeout: postgresql://host/app?password=hunter2",
        "timeout: host=x password='pa hunter2'",
        "auth_file: secret",
        "timeout: '${SECRET}'",
        "timeout: '1${SECRET}'",
        "words: ['${SECRET}']",
        "words: ['x', '${SECRET}', redis://${SECRET}@host]",
        "tls: {phrase: [hunter2]}",
        "password_file: '${SECRET}'",
    ],
)
def test_no_error_contains_a_secret(tmp_path: Path, settings: str) -> None:
    (tmp_path / "secret").write_text("hunter2\n")

    assert "hunter2" not in "\n".join(_faults(tmp_path, _broker(settings), {"SECRET": "hunter2"}))


def test_a_password_file_passed_as_the_config_is_not_quoted(tmp_path: Path) -> None:
    assert _faults(tmp_path, "hunter2\n") == [
        "1: found a single value; expected a mapping of keys such as `listen` and `exporters`"
    ]


def test_an_invalid_service_variable_is_named_without_its_value() -> None:
    class Numbered(Settings):
        url: int

    registry = Registry(PUBLISHED)
    numbered = Exporter(
        "broker", Numbered, lambda _s, _c: Target({}), named=True, from_environment=FromEnvironment("BROKER_URL")
    )
    registry.get = {"broker": numbered, "vault": VAULT, "system": HOST}.__getitem__  # type: ignore[assignment]  # a stand-in for the registry

    with pytest.raises(ConfigError) as caught:
        load_config(None, {"BROKER_URL": "hunter2"}, registry)

    assert str(caught.value) == (
        "$BROKER_URL: exporters.broker[0].url: found a value from the environment; expected a whole number"
    )


@pytest.mark.parametrize("place", ["tls: {phrase_file: secret}", "peers: {one: {phrase_file: secret}}"])
def test_every_secret_field_of_a_model_accepts_a_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret").write_text("hunter2\r\n")
    settings = _settings(tmp_path, place)

    tls = settings.tls or settings.peers["one"]

    assert tls.phrase is not None
    assert tls.phrase.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_declared_field_named_like_a_secret_file_is_not_read_as_one(tmp_path: Path) -> None:
    settings = _settings(tmp_path, "key_file: not-read.pem")

    assert (settings.key, settings.key_file) == (None, "not-read.pem")


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("missing", "'missing' cannot be read: No such file or directory"),
        (".", "'.' cannot be read: Is a directory"),
        ("pipe", "'pipe' cannot be read: not a regular file"),
        ("/dev/null", "'/dev/null' cannot be read: not a regular file"),
        ("large", "'large' cannot be read: too large for a secret (limit 64 KiB)"),
        ("binary", "'binary' is not UTF-8 text"),
        ('"a\\0b"', "'a\\x00b' contains an invalid character"),
        ("''", "found ''; expected the path of a file"),
    ],
)
def test_an_unusable_secret_file_is_reported_once_and_does_not_block(tmp_path: Path, file: str, fault: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 65537)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    faults = _faults(tmp_path, _broker(f"auth_file: {file}"))

    assert faults == [f"5: exporters.broker[0].auth_file: {fault}"]


def test_an_invalid_secret_is_reported_at_the_key_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("abc")

    assert _faults(tmp_path, _broker("auth_file: short")) == [
        "5: exporters.broker[0].auth_file: found the content of that file; expected at least 8 characters"
    ]


# The environment


@pytest.mark.parametrize(
    ("settings", "environ", "name", "value"),
    [
        ("timeout: ${T}", {"T": "15"}, "timeout", 15.0),
        ("timeout: ${T:-1m}", {}, "timeout", 60.0),
        ("timeout: ${T:-7}", {"T": ""}, "timeout", 7.0),
        ("timeout: ${N}${U}", {"N": "2", "U": "h"}, "timeout", 7200.0),
        ("count: '${C}'", {"C": "5"}, "count", 5),
        ("limit: ${L}", {"L": "1GiB"}, "limit", 2**30),
    ],
)
def test_a_value_from_the_environment_is_converted_to_the_type_of_its_field(
    tmp_path: Path, settings: str, environ: dict[str, str], name: str, value: object
) -> None:
    assert getattr(_settings(tmp_path, settings, environ), name) == value


def test_a_numeric_password_from_the_environment_stays_text(tmp_path: Path) -> None:
    settings = _settings(tmp_path, "password: ${P}", {"P": "0123"})

    assert settings.password is not None
    assert settings.password.get_secret_value() == "0123"


def test_an_unset_variable_is_the_only_error_at_its_location(tmp_path: Path) -> None:
    assert _faults(tmp_path, _broker("timeout: ${NOT_SET}")) == [
        "5: exporters.broker[0].timeout: the environment variable NOT_SET is not set"
    ]


def test_a_nested_reference_in_a_default_is_rejected(tmp_path: Path) -> None:
    assert _faults(tmp_path, "listen: ${A:-${B}}", {"B": ":1"}) == [
        "1: listen: ${ must be followed by the name of an environment variable and }, or by NAME:-default};"
        " write $$ for a plain $"
    ]


# Found and expected values


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ("nested: {kind: sql}", ["nested.kind: found 'sql'; expected one of 'redis', 'kafka'"]),
        ("nested: {kind: kafka}", ["nested.topic: is missing; expected text"]),
        (
            "nested: {kind: kafka, topics: [a], topic: b}",
            ["nested.topic: unknown key (did you mean 'topics'?); there are: kind, topics"],
        ),
        ("by_kind: {kind: kafka}", ["by_kind.kind: found 'kafka'; expected one of 'redis', 'sql'"]),
        ("by_kind: {database: 1}", ["by_kind.kind: is missing; expected one of 'redis', 'sql'"]),
        (
            "by_kind: {kind: redis, database: x, querry: y}",
            [
                "by_kind.database: found 'x'; expected a whole number",
                "by_kind.querry: unknown key; there are: database, kind",
            ],
        ),
        ("by_shape: {kind: sql, query: 5}", ["by_shape.query: found 5; expected text"]),
        ("by_shape: {kind: sql}", ["by_shape.query: is missing; expected text"]),
        ("mixed: hello", ["mixed: found 'hello'; expected a whole number or a list"]),
        ("mixed: [1, x]", ["mixed[1]: found 'x'; expected a whole number"]),
        ("count: yes", ["count: found true; expected a number"]),
        ("words: [x]", ["words: found a list; expected other words than x"]),
        ("tls: {fraze_file: x}", ["tls.fraze_file: unknown key (did you mean 'phrase_file'?); there are: ca, phrase,"]),
    ],
)
def test_each_error_is_reported_once_at_its_key(tmp_path: Path, settings: str, faults: list[str]) -> None:
    told = _faults(tmp_path, _broker(settings))

    assert len(told) == len(faults)
    for line, fault in zip(told, faults, strict=True):
        assert line.startswith(f"5: exporters.broker[0].{fault}")


def test_a_missing_key_is_reported_with_the_expected_value(tmp_path: Path) -> None:
    assert _faults(tmp_path, "exporters:\n  vault: {}\n") == [
        "2: exporters.vault.lease: is missing; expected a duration such as 15s, 1m30s or 500ms",
        "2: exporters.vault.token: is missing; expected text, or the path of a file that holds it as `token_file`",
    ]


def test_a_ratio_cannot_be_a_boolean(tmp_path: Path) -> None:
    assert _faults(tmp_path, "thresholds: {cpu_ratio: on}") == [
        "1: thresholds.cpu_ratio: found true; expected a number"
    ]


def test_a_problem_has_its_location_and_values_as_attributes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, "listen: :1\ninterval: soon\n")

    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column, problem.key) == (f"{tmp_path}/deckwatch.yml", 2, 1, "interval")
    assert (problem.found, problem.expected) == ("'soon'", "a duration above 0, such as 15s, 1m30s or 500ms")


def test_a_duplicate_target_name_is_reported_even_if_the_first_target_is_invalid(tmp_path: Path) -> None:
    text = "exporters:\n  broker:\n    - {name: a, url: 5}\n    - {name: a, url: x}\n"

    assert _faults(tmp_path, text) == [
        "3: exporters.broker[0].url: found 5; expected text",
        "4: exporters.broker[1].name: found 'a'; expected a unique name: the target in line 3 has it too",
    ]


def test_the_error_for_a_key_with_a_line_break_is_one_line(tmp_path: Path) -> None:
    assert _faults(tmp_path, '"a\\nb": 1\n')[0].startswith("1: a\\nb: unknown key")


# YAML


@pytest.mark.parametrize(
    "text", ["!!bool maybe", "!!int ''", "!!float ''", "!!timestamp x", "!unknown x", "2001-99-99", "!!binary a"]
)
def test_a_yaml_tag_that_does_not_match_its_value_is_reported_once(tmp_path: Path, text: str) -> None:
    (fault,) = _faults(tmp_path, f"listen: {text}\n")

    assert fault.startswith("1: listen: ")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("listen: :1\n---\nlisten: :2\n", "2: is not valid YAML: it contains a second document (after ---)"),
        ("listen: :1\ninterval: \x07\n", "2: is not valid YAML: it contains the character U+0007"),
        ("listen: :1\n\tinterval: 1s\n", "2: is not valid YAML: "),
        (
            "thresholds:\n  <<: {}\n  <<: {}\n",
            "3: thresholds.<<: is set twice, first in line 2; merge several",
        ),
        ("thresholds:\n  <<: 5\n", "2: thresholds: <<: takes a mapping or a list of them"),
        ("? [a]\n: 1\n", "1: a key must be a plain word"),
    ],
)
def test_unsupported_yaml_is_reported_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    (told,) = _faults(tmp_path, text)

    assert told.startswith(fault)


@pytest.mark.parametrize("seed", ["[x]", "{}"])
@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_exponentially_expanding_aliases_are_rejected(tmp_path: Path, seed: str, form: str) -> None:
    lines = [f"k0: &k0 {seed if form[0] == '[' else '{}'}"]
    lines += [f"k{n}: &k{n} {form.format(','.join([f'*k{n - 1}'] * 10))}" for n in range(1, 12)]

    (fault,) = _faults(tmp_path, "\n".join(lines))

    assert fault.endswith("expands to more than 100000 values")


def test_explicit_keys_override_merged_keys_in_any_order(tmp_path: Path) -> None:
    text = (
        "exporters:\n  broker:\n    - &a {name: a, url: x, timeout: 9s, count: 3}\n"
        "    - &b {name: b, url: y, count: 4}\n"
        "    - {name: c, <<: [*a, *b], timeout: 5s}\n    - name: d\n      timeout: wrong\n      <<: *a\n"
    )

    assert _faults(tmp_path, text) == [
        "7: exporters.broker[3].timeout: found 'wrong'; expected a duration above 0, such as 15s, 1m30s or 500ms"
    ]
    merged = _load(tmp_path, text.replace("wrong", "8s")).targets[2].settings
    assert isinstance(merged, BrokerSettings)
    assert (merged.url, merged.timeout, merged.count) == ("x", 5.0, 3)


def test_reading_an_oversized_config_stops_at_the_limit(tmp_path: Path) -> None:
    with open(tmp_path / "deckwatch.yml", "wb") as file:
        file.truncate(5 * 1024**2)  # a bounded stand-in for /dev/zero

    with pytest.raises(ConfigError, match=r"deckwatch\.yml: is larger than 4 MiB"):
        load_config(tmp_path / "deckwatch.yml", {}, REGISTRY)


@pytest.mark.parametrize(
    "address", ["[]:80", "[zz]:80", "999.1.1.1:80", "a b:80", "host:80/", ":65536", ":٣", ":" + "1" * 5000]
)
def test_a_malformed_address_is_rejected(tmp_path: Path, address: str) -> None:
    (fault,) = _faults(tmp_path, f"listen: '{address}'")

    assert fault.endswith("expected an address such as 127.0.0.1:9797, [::1]:9797 or :9797 (all addresses)")


def test_a_dangling_symlink_is_not_skipped_when_searching_for_the_config(tmp_path: Path) -> None:
    (tmp_path / "deckwatch.yml").symlink_to("gone.yml")

    assert find_config(None, {}, tmp_path) == tmp_path / "deckwatch.yml"


# Third-party exporters


def test_a_broken_exporter_is_reported_among_the_other_errors_with_its_distribution(tmp_path: Path) -> None:
    registry = Registry({**PUBLISHED, "acme": ("no_such_module:EXPORTER", "acme-exporter")})

    assert _faults(tmp_path, "listen: nowhere\nexporters: {acme: {}}", registry=registry) == [
        "1: listen: found 'nowhere'; expected an address such as 127.0.0.1:9797, [::1]:9797 or :9797 (all addresses)",
        "2: exporters.acme: exporter 'acme' of acme-exporter cannot be loaded from no_such_module:EXPORTER:"
        " ModuleNotFoundError: No module named 'no_such_module'",
    ]


def test_a_broken_exporter_that_the_config_does_not_use_has_no_effect(tmp_path: Path) -> None:
    registry = Registry({**PUBLISHED, "acme": ("no_such_module:EXPORTER", "acme-exporter")})

    assert [target.exporter for target in load_config(None, {}, registry).targets] == ["system"]
    assert [target.exporter for target in _load(tmp_path, "", registry=registry).targets] == ["system"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("raise ValueError('kaput')", "ValueError: kaput"),
        ("def (:", "SyntaxError: invalid syntax"),
        ("EXPORTER = 5", "is neither an Exporter nor a collector"),
        ("from deckwatch.config import Settings", "AttributeError: "),
    ],
)
def test_a_broken_third_party_module_gives_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, fault: str
) -> None:
    (tmp_path / "acme_module.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acme_module", raising=False)

    with pytest.raises(RegistryError, match="exporter 'acme' of acme-exporter") as caught:
        Registry({"acme": ("acme_module:EXPORTER", "acme-exporter")}).get("acme")

    sys.modules.pop("acme_module", None)
    assert fault in str(caught.value)


def test_exporters_with_a_mismatched_or_duplicate_name_are_rejected() -> None:
    with pytest.raises(RegistryError, match="has the name 'system'"):
        Registry({"other": (f"{__name__}:HOST", "acme")}).get("other")
    with pytest.raises(RegistryError, match="published more than once, by acme, zeta; uninstall all but one"):
        Registry(PUBLISHED, {"system": {"zeta", "acme"}}).get("system")


def test_an_exporter_is_imported_only_when_the_config_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seldom_module.py").write_text(f"from {__name__} import VAULT as EXPORTER\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry({**PUBLISHED, "vault": ("seldom_module:EXPORTER", "acme")})

    _load(tmp_path, "exporters: {system: {}}", registry=registry)
    assert "seldom_module" not in sys.modules
    _load(tmp_path, "exporters: {vault: {token: x, lease: 1h}}", registry=registry)
    assert sys.modules.pop("seldom_module").EXPORTER is VAULT


def test_an_installed_distribution_can_publish_an_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    information = tmp_path / "acme_exporter-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-exporter\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[deckwatch.exporters]\nvault = {__name__}:VAULT\n")
    monkeypatch.syspath_prepend(tmp_path)

    registry = Registry.installed()

    assert {"system", "vault"} <= set(registry.names())
    assert registry.get("vault") is VAULT


@pytest.mark.parametrize("size", ["12", "12B", "255KiB"])
def test_a_spool_that_is_too_small_is_refused_with_the_least_size(tmp_path: Path, size: str) -> None:
    text = f"logs: {{loki: {{url: 'http://127.0.0.1:3100'}}, files: [], spool: {{max_bytes: {size}}}}}"

    (fault,) = _faults(tmp_path, text)

    assert "logs.spool.max_bytes" in fault
    assert "at least 256KiB" in fault
