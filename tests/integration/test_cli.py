"""The command line: valid commands print their result; invalid ones print one clear line and exit with 2."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from deckwatch.collection.registry import Registry
from deckwatch.config import load_config
from services import ROOT, deckwatch_command, installed


def deckwatch(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        deckwatch_command(*arguments),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environ},
        timeout=60,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Assert that a command was rejected with one line on stderr, and return that line."""
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("listne: :1\n", "deckwatch.yml:1: listne: unknown key (did you mean 'listen'?)"),
        ("interval: soon\n", "deckwatch.yml:1: interval: found 'soon'; expected a duration above 0"),
        ("exporters: {sytem: {}}\n", "deckwatch.yml:1: exporters.sytem: unknown exporter (did you mean 'system'?)"),
        (
            "exporters: {system: {processes: [{name: a, match: x}, {name: a, match: y}]}}\n",
            "exporters.system.processes: found a list; expected groups with different names",
        ),
        ("exporters: {system: {disable: [cpuu]}}\n", "unknown collector 'cpuu'"),
        (
            "exporters: {system: {processes: [{name: a, match: '('}]}}\n",
            "exporters.system.processes[0].match: found '('",
        ),
        ("listen: '${NO_SUCH_VARIABLE}'\n", "the environment variable NO_SUCH_VARIABLE is not set"),
        ("web_config: none.yml\n", "none.yml: no such file"),
        ("a: [", "deckwatch.yml:"),
    ],
)
def test_an_invalid_config_is_rejected_with_the_location(tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "deckwatch.yml").write_text(content)

    assert line in refused(deckwatch("run", cwd=tmp_path))


def test_a_missing_config_a_directory_and_a_binary_have_different_errors(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))

    assert "no such file" in refused(deckwatch("run", "--config", "none.yml", cwd=tmp_path))
    assert "is a directory" in refused(deckwatch("run", "--config", str(tmp_path), cwd=tmp_path))
    assert "is not UTF-8 text" in refused(deckwatch("run", "--config", str(binary), cwd=tmp_path))
    assert "/proc/self/mem: cannot be read" in refused(deckwatch("run", "--config", "/proc/self/mem", cwd=tmp_path))
    assert "no such file" in refused(deckwatch("check", cwd=tmp_path, DECKWATCH_CONFIG="/not/there.yml"))


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "deckwatch.yml").write_text("")

    done = deckwatch("once", "system.loadavg", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "\nnode_load1 " in done.stdout


@pytest.mark.parametrize("address", ["nowhere", "1.2.3.4:http", "127.0.0.1:99999"])
def test_a_listen_error_is_one_line(tmp_path: Path, address: str) -> None:
    assert refused(deckwatch("run", "--listen", address, cwd=tmp_path))


def test_once_prints_an_exposition_that_promtool_accepts(tmp_path: Path) -> None:
    done = deckwatch("once", "system", cwd=tmp_path)
    checked = subprocess.run(
        [installed("promtool"), "check", "metrics"], input=done.stdout, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    # Exit code 3 is for naming conventions, 1 for parse errors. The names are node_exporter's.
    assert checked.returncode in (0, 3), checked.stderr
    assert all(line.startswith(("node_", "process_")) for line in checked.stderr.splitlines() if line.strip())


def test_once_with_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    line = refused(deckwatch("once", "system.cpuu", cwd=tmp_path))

    assert "unknown collector 'system.cpuu'" in line
    assert "system.cpu," in line


def test_check_prints_a_table_and_succeeds_on_this_host(tmp_path: Path) -> None:
    done = deckwatch("check", cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert any(line.split()[:3] == ["system.cpu", "-", "ok"] for line in done.stdout.splitlines())


def test_check_lists_failures_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "deckwatch.yml").write_text(f"exporters: {{system: {{procfs: {tmp_path}}}}}\n")

    done = deckwatch("check", cwd=tmp_path)

    assert done.returncode == 2
    row = next(line for line in done.stdout.splitlines() if line.startswith("system.cpu "))
    assert "failed" in row
    assert "FileNotFoundError" in row


def test_the_catalogue_has_the_documented_json_format(tmp_path: Path) -> None:
    done = deckwatch("metrics", "--format", "json", cwd=tmp_path)

    entries = json.loads(done.stdout)
    assert {frozenset(entry) for entry in entries} == {
        frozenset(("name", "type", "labels", "unit", "help", "exporter"))
    }
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["node_cpu_seconds_total"]["labels"] == ["cpu", "mode"]
    assert by_name["node_cpu_seconds_total"]["unit"] == "seconds"
    assert by_name["deckwatch_snapshot_age_seconds"]["exporter"] == "deckwatch"
    assert all(entry["help"].endswith(".") for entry in entries)


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_the_catalogue_is_also_printed_as_text(tmp_path: Path, format: str) -> None:
    assert "node_load1" in deckwatch("metrics", "--format", format, cwd=tmp_path).stdout


def _examples(readme: str) -> list[str]:
    """Return the config files and excerpts in a README."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / readme).read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if "scrape_configs" not in block]


#: Pages with configs of the agent.
PAGES = ("README.md", "agent/deckwatch/logs/README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))


@pytest.mark.parametrize("example", [example for page in PAGES for example in _examples(page)])
def test_an_example_config_is_valid_by_the_schema_and_by_the_agent(example: str, tmp_path: Path) -> None:
    file, secret = tmp_path / "deckwatch.yml", tmp_path / "secret"
    secret.write_text("of the test")
    file.write_text(re.sub(r"/run/secrets/\w+", str(secret), example))
    schema = json.loads(deckwatch("config", "schema", cwd=tmp_path).stdout)

    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(file.read_text()))
    config = load_config(file, {}, Registry.installed())
    assert config.targets or config.logs


def test_every_command_in_the_readme_exists(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    rows = "".join(line for line in readme.splitlines() if line.startswith("| `deckwatch "))

    for command in re.findall(r"`deckwatch ([^`]+)`", rows):
        words = itertools.takewhile(lambda word: word.islower() and not word.startswith("-"), command.split())
        assert deckwatch(*words, "--help", cwd=tmp_path).returncode == 0, command


def test_an_unknown_command_is_rejected_without_a_traceback(tmp_path: Path) -> None:
    done = deckwatch("walk", cwd=tmp_path)

    assert done.returncode == 2
    assert "invalid choice: 'walk'" in done.stderr


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert deckwatch("version", cwd=tmp_path).stdout.startswith("deckwatch 0.")


def test_a_closed_output_pipe_is_not_an_error(tmp_path: Path) -> None:
    command = " ".join([*deckwatch_command("metrics"), "| head -1"])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False)

    assert done.stderr == ""
