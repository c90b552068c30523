"""Journals that a test writes, read by a real journalctl and shipped by a real agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from journals import Journal, writer
from log_shipping import await_empty_spool, await_lines, await_record, config, figures, new_job, shipper, stored, total
from loki import Double, Loki, loki_under_test
from services import deckwatch_command, fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def loki() -> Iterator[Loki]:
    with loki_under_test() as running:
        yield running


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def reading(loki: Loki, journal: Journal, job: str, **settings: Any) -> str:
    source = {"directory": str(journal.folder), "labels": {"job": job}, **settings}
    return config(loki, [], journal=[source])


def numbered(begin: int, end: int) -> list[str]:
    return [f"line {number}" for number in range(begin, end)]


def reader_pids(agent: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(agent), "journalctl"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


def test_entries_are_shipped_once_over_a_restart_and_a_killed_agent(
    tmp_path: Path, loki: Loki, journal: Journal
) -> None:
    job = new_job()
    text = reading(loki, journal, job)
    journal.write(numbered(0, 300))
    with shipper(tmp_path, text) as program:
        await_lines(loki, job, numbered(0, 300))
        journal.write(numbered(300, 400))
        await_lines(loki, job, numbered(0, 400))
        program.process.kill()
        program.process.wait()
    journal.write(numbered(400, 500))
    with shipper(tmp_path, text):
        await_lines(loki, job, numbered(0, 500))
        journal.write(numbered(500, 501))
        await_lines(loki, job, numbered(0, 501))


def test_reading_continues_without_gap_after_the_last_read_entry_was_vacuumed(
    tmp_path: Path, loki: Loki, journal: Journal
) -> None:
    job = new_job()
    text = reading(loki, journal, job)
    first = journal.write(numbered(0, 10))
    with shipper(tmp_path, text) as program:
        await_lines(loki, job, numbered(0, 10))
        await_empty_spool(program)
    first.unlink()
    journal.write(numbered(10, 20))
    with shipper(tmp_path, text):
        await_lines(loki, job, numbered(0, 20))


def test_a_killed_journalctl_is_started_again(tmp_path: Path, loki: Loki, journal: Journal) -> None:
    job = new_job()
    journal.write(numbered(0, 10))
    with shipper(tmp_path, reading(loki, journal, job)) as program:
        await_lines(loki, job, numbered(0, 10))
        (pid,) = reader_pids(program.process.pid)
        os.kill(pid, signal.SIGKILL)
        await_record(program, "journalctl ended with status -9")
        journal.write(numbered(10, 20))
        await_lines(loki, job, numbered(0, 20))
        until(lambda: 1.0 in _reading(figures(program)))


def _reading(found: dict[str, float]) -> list[float]:
    return [value for name, value in found.items() if name.startswith("deckwatch_log_journal_reading")]


def test_units_match_labels_levels_and_rules_apply(tmp_path: Path, loki: Loki, journal: Journal) -> None:
    if not isinstance(loki, Double):
        pytest.skip("reads the streams of the double")
    job = new_job()
    journal.write(["to keep"], "web.service", PRIORITY="3", _COMM="web", CONTAINER_NAME="shop", SYSLOG_IDENTIFIER="w")
    journal.write(["another program"], "web.service", _COMM="cron")
    journal.write(["another unit"], "db.service", _COMM="web")
    journal.write(["first\nsecond", b"caf\xc3\xa9 \x1b[1m", "token=abc me@example.com", "x" * 9000], _COMM="app")
    with shipper(
        tmp_path,
        reading(
            loki,
            journal,
            job,
            units=["web.service", "app.service"],
            match={"_COMM": ["web", "app"]},
            redact=[{"kind": "email"}],
        ),
    ):
        wanted = ["to keep", "first\nsecond", "café \x1b[1m", "token=abc ***", "x" * 9000]
        await_lines(loki, job, wanted)
    streams = {
        line: (dict(labels), metadata) for labels, entries in loki.stored.items() for _, line, metadata in entries
    }
    labels, metadata = streams["to keep"]
    assert labels == {"job": job, "level": "error", "unit": "web.service", "container": "shop"}
    assert dict(metadata)["SYSLOG_IDENTIFIER"] == "w"
    assert streams["first\nsecond"][0] == {"job": job, "level": "info", "unit": "app.service"}


def test_json_in_messages_gives_level_and_metadata(tmp_path: Path, loki: Loki, journal: Journal) -> None:
    if not isinstance(loki, Double):
        pytest.skip("reads the streams of the double")
    job = new_job()
    line = '{"level": "WARNING", "message": "low", "trace_id": "t1"}'
    journal.write([line])
    with shipper(tmp_path, reading(loki, journal, job, format="json")):
        await_lines(loki, job, [line])
    ((labels, entries),) = [(dict(labels), entries) for labels, entries in loki.stored.items()]
    assert labels["level"] == "warning"
    assert dict(entries[0][2])["trace_id"] == "t1"


def test_entries_become_metrics_and_are_rewritten_from_fields_of_the_journal(
    tmp_path: Path, loki: Loki, journal: Journal
) -> None:
    if not isinstance(loki, Double):
        pytest.skip("reads the streams of the double")
    job = new_job()
    journal.write(["\x1b[32mPOST /pay 250ms\x1b[0m", "GET / 50ms", "started"], "web.service", _COMM="web")
    metric = {"name": "journal_request_seconds", "type": "histogram", "field": "ms", "scale": 0.001, "buckets": [0.1]}
    source: dict[str, Any] = {
        "format": "regex",
        "pattern": "^(?P<method>[A-Z]+) (?P<path>[^ ]+) (?P<ms>[0-9]+)ms$",
        "parse": [{"field": "_SYSTEMD_UNIT", "format": "regex", "pattern": "^(?P<service>.*)[.]service$"}],
        "fields": {"program": "_COMM"},
        "decolorize": True,
        "output": "{program}: {path}",
        "label_fields": {"service": "service"},
        "drop": [{"field": "path", "matches": "^/$"}],
        "metrics": [metric | {"labels": {"method": "method", "unit": "_SYSTEMD_UNIT"}}],
    }
    with shipper(tmp_path, reading(loki, journal, job, **source)) as program:
        await_lines(loki, job, ["web: /pay", "web: "])
        until(lambda: total(program, "journal_request_seconds_sum", 'method="POST"') == 0.25, what="the metric")
        assert total(program, "journal_request_seconds_sum", 'method="GET",unit="web.service"') == 0.05
    assert {dict(labels).get("service") for labels in loki.stored} == {"web"}


def test_a_journal_that_cannot_be_read_is_shown_with_the_reason(tmp_path: Path, loki: Loki) -> None:
    text = config(loki, [], journal=[{"directory": str(tmp_path / "missing"), "labels": {"job": new_job()}}])
    with shipper(tmp_path, text) as program:

        def journals() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads(fetch(program.url + "/health/detailed")[1])["journals"]
            return [one for one in found if one["state"] == "failing"]

        (found,) = until(journals, what="the failing journal")
        assert "missing" in found["name"]
        assert found["error"]
        assert json.loads(fetch(program.url + "/health")[1])["status"] == "degraded"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"units": ["-x"]}, "a unit"),
        ({"match": {"comm": "x"}}, "a field of the journal"),
        ({"format": "regex"}, "pattern: a regular expression"),
        ({"format": "cri"}, "raw"),
        ({"max_age": "soon"}, "max_age"),
    ],
)
def test_check_refuses_a_wrong_source(tmp_path: Path, source: dict[str, Any], said: str) -> None:
    (tmp_path / "deckwatch.yml").write_text(config("http://127.0.0.1:9", [], journal=[source]))
    done = checked(tmp_path)
    assert done.returncode == 2
    assert "logs.journal[0]" in done.stdout + done.stderr
    assert said in done.stdout + done.stderr


def test_check_reports_a_journal_that_cannot_be_read(tmp_path: Path) -> None:
    writer()  # skips where there is no journalctl
    missing = {"directory": str(tmp_path / "missing")}
    (tmp_path / "deckwatch.yml").write_text(config("http://127.0.0.1:9", [], journal=[missing]))
    done = checked(tmp_path)
    assert done.returncode == 2
    assert "logs.journal[0]" in done.stdout
    assert "No such file or directory" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_without_privileges_the_check_names_the_group(journal: Journal) -> None:
    journal.write(["secret"])
    journal.folder.chmod(0o700)
    program = (
        "import os, sys\n"
        "from deckwatch.config.journal_settings import JournalSettings\n"
        "from deckwatch.logs.sources.journal import JournalError, check_journal\n"
        "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "try:\n"
        "    check_journal(JournalSettings(directory=sys.argv[1]))\n"
        "except JournalError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(journal.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Add the user of the agent to the group systemd-journal." in done.stdout, done.stderr


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    command = deckwatch_command(
        "check", "--config", str(folder / "deckwatch.yml"), "--state-dir", str(folder / "state")
    )
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_journal_that_cannot_be_read_shows_in_the_log_and_in_metrics(
    tmp_path: Path, loki: Loki, journal: Journal
) -> None:
    job = new_job()
    hidden = journal.folder.rename(tmp_path / "hidden")
    with shipper(tmp_path, reading(loki, journal, job)) as program:
        await_record(program, "journalctl ended with status 1", "No such file or directory")
        until(lambda: _reading(figures(program)) == [0.0])
        hidden.rename(journal.folder)
        journal.write(["there again"])
        await_lines(loki, job, ["there again"])
        until(lambda: _reading(figures(program)) == [1.0])
    assert len(stored(loki, job)) == 1
