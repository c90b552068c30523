"""Loading the config: valid files give frozen settings; invalid ones report every error with its location."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deckwatch.collection.registry import Registry
from deckwatch.config import (
    Config,
    ConfigError,
    Duration,
    Problem,
    Secret,
    Settings,
    changed,
    find_config,
    json_schema,
    load_config,
    parse_duration,
    parse_size,
    split_listen,
)


class CacheSettings(Settings):
    url: str
    password: Secret | None = None
    timeout: Duration = 2.0
    names: tuple[str, ...] = ()


class HostSettings(Settings):
    depth: int = 1
    verbose: bool = False


@pytest.fixture
def registry() -> Registry:
    return Registry({"cache": (f"{__name__}:CACHE", "tests"), "system": (f"{__name__}:HOST", "tests")})


from deckwatch.exporter import Exporter, FromEnvironment, Target  # noqa: E402  beside the exporters it declares

CACHE = Exporter(
    "cache", CacheSettings, lambda _s, _c: Target({}), named=True, from_environment=FromEnvironment("CACHE_URL")
)
HOST = Exporter("system", HostSettings, lambda _s, _c: Target({}))


def _load(folder: Path, text: str | bytes, registry: Registry, **environ: str) -> Config:
    file = folder / "deckwatch.yml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(file, environ, registry)


def _faults(folder: Path, text: str | bytes, registry: Registry, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(folder, text, registry, **environ)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def _outcome(file: Path, registry: Registry) -> Config | tuple[Problem, ...]:
    """Return the config, or its problems; any other exception propagates."""
    try:
        return load_config(file, {}, registry)
    except ConfigError as wrong:
        return wrong.problems


GOOD = """\
listen: 127.0.0.1:9900
interval: 30s
thresholds: {cpu_ratio: 0.9, process_memory_bytes: 1GiB, slow_query: 500ms}
exporters:
  system: {depth: 2}
  cache:
    - {name: main, url: "cache://${HOST:-localhost}/0", password: "${PASSWORD}", interval: 1m, max_series: 50}
    - name: other
      url: cache://other
"""


def test_a_valid_file_is_loaded_into_frozen_settings(tmp_path: Path, registry: Registry) -> None:
    config = _load(tmp_path, GOOD, registry, PASSWORD="hunter2")

    assert (config.settings.listen, config.settings.interval) == ("127.0.0.1:9900", 30)
    assert config.thresholds == {
        "cpu_ratio": 0.9, "process_memory_bytes": 2**30, "slow_query": 0.5, "cache_hit_ratio": 0.8
    }  # fmt: skip
    host, main, other = config.targets
    assert isinstance(host.settings, HostSettings)
    assert (host.exporter, host.name, host.settings.depth) == ("system", "", 2)
    assert isinstance(main.settings, CacheSettings)
    assert (main.name, main.interval, main.max_series) == ("main", 60, 50)
    assert main.settings.url == "cache://localhost/0"
    assert main.settings.password is not None
    assert main.settings.password.get_secret_value() == "hunter2"
    assert other.interval is None
    with pytest.raises(ValidationError):
        main.settings.url = "changed"  # type: ignore[misc]  # the fault under test
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.path = None  # type: ignore[misc]  # the fault under test


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "listen: 127.0.0.1:9797\n"])
def test_a_file_without_exporters_monitors_the_host(tmp_path: Path, registry: Registry, text: str) -> None:
    assert [target.exporter for target in _load(tmp_path, text, registry).targets] == ["system"]


def test_an_empty_exporters_section_monitors_nothing(tmp_path: Path, registry: Registry) -> None:
    assert _load(tmp_path, "exporters: {}\n", registry).targets == ()


def test_without_a_file_environment_variables_enable_their_exporters(registry: Registry) -> None:
    config = load_config(None, {"CACHE_URL": "cache://x"}, registry)

    assert [(target.exporter, target.name) for target in config.targets] == [("system", ""), ("cache", "cache")]


def test_all_errors_are_reported_together_with_line_key_found_and_expected_value(
    tmp_path: Path, registry: Registry
) -> None:
    text = """\
listen: nowhere
intervall: 15s
thresholds: {cpu_ratio: high}
exporters:
  system: {depth: deep, verbos: true}
  cache:
    - {name: a, url: 5}
    - {name: a, url: x}
    - {name: b}
    - {name: "b c", url: x, timeout: soon}
  redsi: []
"""
    assert _faults(tmp_path, text, registry) == [
        "deckwatch.yml:1: listen: found 'nowhere'; expected an address such as 127.0.0.1:9797, [::1]:9797 or :9797"
        " (all addresses)",
        "deckwatch.yml:2: intervall: unknown key (did you mean 'interval'?); there are: allowed_hosts,"
        " enable_lifecycle, exporters, interval, listen, logs, prometheus_url, remote_write, slos, thresholds,"
        " web_config",
        "deckwatch.yml:3: thresholds.cpu_ratio: found 'high'; expected a number",
        "deckwatch.yml:5: exporters.system.depth: found 'deep'; expected a whole number",
        "deckwatch.yml:5: exporters.system.verbos: unknown key (did you mean 'verbose'?); there are: depth, disable,"
        " interval, max_series, verbose",
        "deckwatch.yml:7: exporters.cache[0].url: found 5; expected text",
        "deckwatch.yml:8: exporters.cache[1].name: found 'a'; expected a unique name: the target in line 7 has it too",
        "deckwatch.yml:9: exporters.cache[2].url: is missing; expected text",
        "deckwatch.yml:10: exporters.cache[3].name: found 'b c'; expected a name of 1 to 63 letters, digits, and _ . -",
        "deckwatch.yml:10: exporters.cache[3].timeout: found 'soon'; expected a duration above 0, such as 15s, 1m30s"
        " or 500ms",
        "deckwatch.yml:11: exporters.redsi: unknown exporter; there are: cache, system",
    ]


def test_a_duplicate_target_name_error_refers_to_the_first_target(tmp_path: Path, registry: Registry) -> None:
    text = "exporters:\n  cache:\n    - {name: a, url: x}\n    - {name: a, url: y}\n"

    assert _faults(tmp_path, text, registry) == [
        "deckwatch.yml:4: exporters.cache[1].name: found 'a'; expected a unique name: the target in line 3 has it too"
    ]


def test_a_duplicate_key_error_gives_both_lines(tmp_path: Path, registry: Registry) -> None:
    assert _faults(tmp_path, "interval: 1s\nlisten: :1\ninterval: 2s\n", registry) == [
        "deckwatch.yml:3: interval: is set twice, first in line 1"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- a\n- b\n", "found a list; expected a mapping of keys such as `listen` and `exporters`"),
        ("just text", "found a single value; expected a mapping of keys"),
        (b"\x00\x01\xff\xfe", "is not UTF-8 text"),
        ("a: [1, 2\nb: }", "is not valid YAML"),
        ("a: \x07", "is not valid YAML"),
        ("exporters: [1]", "exporters: found a list; expected a mapping of exporters"),
        ("exporters: {cache: {name: a, url: x}}", "exporters.cache: found a mapping; expected a list of targets"),
        ("exporters: {system: 5}", "exporters.system: found 5; expected a mapping of settings"),
        ("listen: '${'", "must be followed by the name of an environment variable"),
        ("x: &a [*a]", "nested too deeply, or an anchor contains itself"),
    ],
)
def test_a_file_of_the_wrong_kind_gives_one_clear_line(
    tmp_path: Path, registry: Registry, text: str | bytes, fault: str
) -> None:
    faults = _faults(tmp_path, text, registry)

    assert any(fault in line for line in faults), faults
    assert all("\n" not in line for line in faults)


def test_a_missing_file_a_directory_and_an_unreadable_file_have_different_errors(
    tmp_path: Path, registry: Registry
) -> None:
    for path, fault in ((tmp_path / "none.yml", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=fault):
            load_config(path, {}, registry)
    unreadable = tmp_path / "unreadable.yml"
    unreadable.write_text("")
    unreadable.chmod(0)
    if os.access(unreadable, os.R_OK):
        # Root can read every regular file, but not unmapped process memory.
        unreadable = Path("/proc/self/mem")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(unreadable, {}, registry)


def test_a_secret_file_path_is_relative_to_the_config(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    text = "exporters: {cache: [{name: a, url: x, password_file: password}]}"

    settings = _load(tmp_path, text, registry).targets[0].settings

    assert isinstance(settings, CacheSettings)
    assert settings.password is not None
    assert settings.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("password_file: missing", "password_file: 'missing' cannot be read: No such file or directory"),
        ("password: a, password_file: b", "password_file: 'password' is set too; set only one of them"),
        ("password_file: [1]", "password_file: found a value (not shown); expected the path of a file"),
    ],
)
def test_an_unusable_secret_file_is_reported(tmp_path: Path, registry: Registry, target: str, fault: str) -> None:
    (tmp_path / "b").write_text("x")
    faults = _faults(tmp_path, f"exporters: {{cache: [{{name: a, url: x, {target}}}]}}", registry)

    assert faults == [f"deckwatch.yml:1: exporters.cache[0].{fault}"]


def test_an_unset_variable_is_reported_with_its_location(tmp_path: Path, registry: Registry) -> None:
    assert _faults(tmp_path, "interval: 5s\nlisten: '${NOT_SET}:1'\n", registry) == [
        "deckwatch.yml:2: listen: the environment variable NOT_SET is not set",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "exporters: {cache: [{name: a, url: x, password: [hunter2]}]}",
        "exporters: {cache: [{name: a, url: x, timeout: '${SECRET}'}]}",
        "listen: '${SECRET}'",
        "exporters: {cache: [{name: a, url: [hunter2]}]}",
        "exporters: {cache: [{name: a, url: x, timeout: 'redis://user:hunter2@host'}]}",
    ],
)
def test_no_error_shows_a_secret(tmp_path: Path, registry: Registry, text: str) -> None:
    assert "hunter2" not in "\n".join(_faults(tmp_path, text, registry, SECRET="hunter2"))


def test_a_double_dollar_sign_is_an_escaped_dollar_sign(tmp_path: Path, registry: Registry) -> None:
    settings = _load(tmp_path, "exporters: {cache: [{name: a, url: 'a$$b$c'}]}", registry).targets[0].settings

    assert isinstance(settings, CacheSettings)
    assert settings.url == "a$b$c"


def test_anchors_and_merge_keys_work(tmp_path: Path, registry: Registry) -> None:
    text = "exporters:\n  cache:\n    - &a {name: a, url: x, timeout: 9s}\n    - {<<: *a, name: b}\n"

    first, second = _load(tmp_path, text, registry).targets

    assert (first.name, second.name, second.settings) == ("a", "b", first.settings)


def test_config_files_are_searched_for_in_the_documented_order(tmp_path: Path) -> None:
    explicit, here = tmp_path / "explicit.yml", tmp_path / "deckwatch.yml"
    environ = {"DECKWATCH_CONFIG": "/from/environment.yml"}

    assert find_config(explicit, environ, tmp_path) == explicit
    assert find_config(None, environ, tmp_path) == Path("/from/environment.yml")
    assert find_config(None, {}, tmp_path) is None
    here.write_text("")
    assert find_config(None, {}, tmp_path) == here


def test_a_reload_detects_added_removed_and_changed_targets(tmp_path: Path, registry: Registry) -> None:
    old = _load(tmp_path, "exporters: {cache: [{name: a, url: x}, {name: b, url: x}, {name: c, url: x}]}", registry)
    new = _load(tmp_path, "exporters: {cache: [{name: a, url: x}, {name: b, url: y}, {name: d, url: x}]}", registry)

    difference = changed(old, new)

    assert [target.name for target in difference.removed] == ["b", "c"]
    assert [target.name for target in difference.added] == ["b", "d"]


def test_the_web_config_path_is_relative_to_the_config(tmp_path: Path, registry: Registry) -> None:
    assert _load(tmp_path, "web_config: web.yml", registry).settings.web_config == str(tmp_path / "web.yml")


@pytest.mark.parametrize(
    ("text", "seconds"), [("15s", 15), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("1d", 86400), (3, 3), (0.5, 0.5)]
)
def test_durations_are_converted_to_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "s", "15 s", "-5s", "0s", 0, -1, True, None, "1y", float("nan")])
def test_a_malformed_duration_is_rejected(text: object) -> None:
    with pytest.raises(ValueError, match="a duration above 0"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 2**29), ("1GiB", 2**30), ("10MB", 10**7), ("1k", 1000), ("5", 5), (7, 7), ("1.5 KiB", 1536)],
)
def test_sizes_are_converted_to_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", -1, True, None, "1XB", 1.5])
def test_a_malformed_size_is_rejected(text: object) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        parse_size(text)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:1", "127.0.0.1", 1), ("[::1]:2", "::1", 2), (":3", "", 3), ("host:0", "host", 0)],
)
def test_listen_addresses_are_split_into_host_and_port(address: str, host: str, port: int) -> None:
    assert split_listen(address) == (host, port)


@given(st.one_of(st.text(), st.binary()))
def test_loading_any_file_gives_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    registry = Registry({"cache": (f"{__name__}:CACHE", "tests"), "system": (f"{__name__}:HOST", "tests")})
    file = tmp_path_factory.getbasetemp() / "any.yml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    assert _outcome(file, registry)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="ascii"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "url", "timeout", "x"]), inner)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(["listen", "interval", "thresholds", "exporters", "web_config", "odd"])


@given(st.dictionaries(KEYS, VALUES) | st.fixed_dictionaries({"exporters": st.fixed_dictionaries({"cache": VALUES})}))
def test_loading_any_yaml_gives_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, values: object
) -> None:
    registry = Registry({"cache": (f"{__name__}:CACHE", "tests"), "system": (f"{__name__}:HOST", "tests")})
    file = tmp_path_factory.getbasetemp() / "any-values.yml"
    file.write_text(yaml.safe_dump(values))
    assert _outcome(file, registry)


def test_the_editor_schema_accepts_and_rejects_the_same_documents_as_the_agent(registry: Registry) -> None:
    schema = json_schema(registry.loadable()[0])
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    good = yaml.safe_load(GOOD)
    validator.validate(good)
    validator.validate({"exporters": {"cache": [{"name": "a", "url": "x", "password_file": "p"}]}})
    refused: list[dict[str, object]] = [
        {"intervall": 1},
        {"exporters": {"cache": {}}},
        {"exporters": {"cache": [{"url": "x"}]}},
        {"exporters": {"cache": [{"name": "a", "url": "x", "timeout": "soon"}]}},
        {"thresholds": {"cpu_ratio": 80}},
        {"exporters": {"system": {"odd": 1}}},
    ]
    for wrong in refused:
        assert not validator.is_valid(wrong), wrong
