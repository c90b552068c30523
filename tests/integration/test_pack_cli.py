"""`gate` and `alerts check` with a real Prometheus, and the commands of an installed wheel."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from typing import TYPE_CHECKING

import pytest

from databases import redis_server
from deckwatch.pack.files import shipped
from services import ROOT, agent, deckwatch_command, fetch, free_port, installed, prometheus, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def deckwatch(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        deckwatch_command(*arguments),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environ},
        timeout=100,
        check=False,
    )


@contextlib.contextmanager
def prometheus_with_past(folder: Path, series: Mapping[str, list[tuple[float, float]]]) -> Iterator[str]:
    """Run a Prometheus with two hours of scrapes every 15 s, and yield its URL. Each series changes at some ages
    (seconds ago)."""
    now = time.time() // 15 * 15
    lines = []
    scraped = {'up{job="deckwatch",instance="a:1"}': [(7200.0, 1.0)]}
    for name, values in [*series.items(), *scraped.items()]:
        lines.append(f"# TYPE {name.partition('{')[0]} unknown")
        for age in range(7200, -1, -15):
            current = [value for start, value in values if start >= age]
            lines += [f"{name} {current[-1]} {now - age:.0f}"] if current else []
    text = folder / "past.txt"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    command = [
        installed("promtool"),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(text),
        str(folder / "prometheus"),
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with prometheus(folder, {}) as running:
        yield running.url


HEALTHY = {
    'deckwatch_build_info{job="deckwatch",instance="a:1"}': [(7200.0, 1.0)],
    'deckwatch_collector_success{job="deckwatch",instance="a:1",collector="system.cpu"}': [(7200.0, 1.0)],
    'node_memory_MemTotal_bytes{job="deckwatch",instance="a:1"}': [(7200.0, 1000.0)],
    'node_memory_MemAvailable_bytes{job="deckwatch",instance="a:1"}': [(7200.0, 500.0)],
    'redis_up{job="deckwatch",instance="a:1",target="cache"}': [(7200.0, 1.0)],
}
MEMORY, REDIS = list(HEALTHY)[3:]


def fired(printed: str) -> list[str]:
    """Return the rows of the table of fired alerts."""
    rows = printed.splitlines()[1:]
    end = next(index for index, row in enumerate(rows) if row.startswith("ALERT ") or " alerts fired" in row)
    return rows[:end]


def test_the_gate_passes_if_no_alert_would_fire(tmp_path: Path) -> None:
    with prometheus_with_past(tmp_path, HEALTHY) as url:
        done = deckwatch(tmp_path, "gate", "--prometheus", url, "--alert", "RedisDown", "HostMemoryExhausted")
        lenient = deckwatch(tmp_path, "gate", "--prometheus", url, "--allow-missing")

    assert (done.returncode, done.stdout) == (0, "none of 2 alerts fired in the last 10m\n"), done.stderr
    assert lenient.returncode == 0, lenient.stdout + lenient.stderr
    assert lenient.stdout.startswith("none of ")


def test_the_gate_fails_for_alerts_whose_metrics_have_no_series(tmp_path: Path) -> None:
    asked = ("--alert", "RedisDown", "PostgresDown")
    with prometheus_with_past(tmp_path, HEALTHY) as url:
        done = deckwatch(tmp_path, "gate", "--prometheus", url, *asked)
        lenient = deckwatch(tmp_path, "gate", "--prometheus", url, *asked, "--allow-missing")
        everything = deckwatch(tmp_path, "gate", "--prometheus", url)

    assert done.returncode == everything.returncode == 3
    assert done.stdout.splitlines() == [
        "ALERT         METRICS WITHOUT SERIES",
        "PostgresDown  pg_up",
        "none of 2 alerts fired in the last 10m",
        "1 alert not checked: Prometheus has no series for the metrics. "
        "Scrape them, choose alerts with --alert, or use --allow-missing.",
    ]
    assert lenient.returncode == 0, lenient.stdout + lenient.stderr
    rows = {line.split()[0] for line in everything.stdout.splitlines()}
    assert {"PgbouncerDown", "HostDiskFull"} <= rows
    assert not {"RedisDown", "HostMemoryLow", "DeckwatchAbsent"} & rows


def test_the_gate_shows_alerts_in_each_window_and_evaluates_for_and_recorded_series(tmp_path: Path) -> None:
    # Memory ran out 8 minutes ago (`for: 5m`, with a recorded series). Redis was down from 40 to 30 minutes ago.
    past = {**HEALTHY, MEMORY: [(7200.0, 500.0), (480.0, 10.0)], REDIS: [(7200.0, 1.0), (2400.0, 0.0), (1800.0, 1.0)]}
    with prometheus_with_past(tmp_path, past) as url:
        short = deckwatch(tmp_path, "gate", "--prometheus", url)
        long = deckwatch(tmp_path, "gate", "--prometheus", url, "--for", "1h", "--severity", "critical")
        other = deckwatch(tmp_path, "gate", "--prometheus", url, "--alert", "RedisDown", "DeckwatchDown")

    assert short.returncode == long.returncode == 1
    assert [line.split()[:3] for line in fired(short.stdout)] == [
        ["HostMemoryExhausted", "critical", "instance=a:1,job=deckwatch"]
    ]
    assert fired(short.stdout)[0].split()[4:] == ["now", "0.01"]
    assert [line.split()[0] for line in fired(long.stdout)] == ["HostMemoryExhausted", "RedisDown"]
    assert "instance=a:1,job=deckwatch,target=cache" in long.stdout
    assert (other.returncode, other.stdout) == (0, "none of 2 alerts fired in the last 10m\n")


def test_the_gate_evaluates_metrics_of_a_live_agent(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        config = f"interval: 1s\nexporters: {{redis: [{{name: cache, url: '{redis.url}'}}]}}\n"
        with agent(tmp_path, config) as watched, prometheus(tmp_path, {"deckwatch": watched}) as seen:
            asked = ("gate", "--prometheus", seen.url, "--for", "1m", "--alert")

            def samples(query: str) -> bool:
                return '"value"' in fetch(f"{seen.url}/api/v1/query?query={query}")[1]

            until(lambda: samples("rate(redis_rejected_connections_total[5m])"))
            before = deckwatch(tmp_path, *asked, "RedisRejectedConnections", "RedisDown")
            client = redis.client()
            client.config_set("maxclients", int(client.info("clients")["connected_clients"]))
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", redis.port), 5) as turned_away:
                    turned_away.recv(100)
            until(lambda: samples("increase(redis_rejected_connections_total[5m])>0"))
            after = deckwatch(tmp_path, *asked, "RedisRejectedConnections", "RedisDown")
            checked = deckwatch(tmp_path, "alerts", "check", "--prometheus", seen.url)

    assert before.returncode == 0, before.stdout + before.stderr
    assert after.returncode == 1, after.stdout + after.stderr
    assert "RedisRejectedConnections  critical" in after.stdout
    assert "target=cache" in after.stdout
    rows = {line.split()[0]: line.split()[1] for line in checked.stdout.splitlines() if line.count("  ")}
    assert rows["PgbouncerDown"] == "none"
    assert "RedisRejectedConnections" not in rows


def test_a_check_fails_with_strict_or_if_no_alert_has_data(tmp_path: Path) -> None:
    with prometheus_with_past(tmp_path, HEALTHY) as url:
        lenient = deckwatch(tmp_path, "alerts", "check", "--prometheus", url)
        strict = deckwatch(tmp_path, "alerts", "check", "--prometheus", url, "--strict")
    (tmp_path / "empty").mkdir()
    with prometheus(tmp_path / "empty", {}) as empty:
        nothing = deckwatch(tmp_path, "alerts", "check", "--prometheus", empty.url)

    assert "PostgresDown" in lenient.stdout
    assert lenient.returncode == deckwatch(tmp_path, "alerts", "check").returncode
    assert strict.returncode == nothing.returncode == 3
    assert "\n0 of " in nothing.stdout


def test_an_unreachable_or_empty_prometheus_is_a_one_line_error(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for code, command in ((2, ["gate"]), (1, ["alerts", "check"])):
        done = deckwatch(tmp_path, *command, "--prometheus", url)
        assert done.returncode == code
        assert (
            done.stderr
            == f"Prometheus at {url} is unreachable: Connection refused. Check the URL, and that it is running.\n"
        )
    with prometheus(tmp_path, {}) as empty:
        done = deckwatch(tmp_path, "gate", "--prometheus", empty.url, "--alert", "RedisDown")
        lenient = deckwatch(tmp_path, "gate", "--prometheus", empty.url, "--allow-missing")
        assert (done.returncode, lenient.returncode) == (3, 3)
        assert "RedisDown  redis_up\n" in done.stdout
        assert "Prometheus scraped nothing in the last 10m. Check its targets.\n" in lenient.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["gate"], "the following arguments are required: --prometheus"),
        (["gate", "--prometheus", "http://127.0.0.1:1", "--alert", "Nothing"], "unknown alert 'Nothing'"),
        (["gate", "--prometheus", "http://127.0.0.1:1", "--for", "soon"], "'soon' is not a duration"),
        (["gate", "--prometheus", "http://127.0.0.1:1", "--for", "0"], "'0' is not between"),
        (["gate", "--prometheus", "http://127.0.0.1:1", "--for", "2d"], "'2d' is not between 1s and 1d"),
        (["gate", "--prometheus", "http://127.0.0.1:1", "--severity", "bad"], "'bad' is not one of critical"),
        (["gate", "--prometheus", "127.0.0.1:9090"], "expected a URL"),
        (["alerts", "check", "--strict"], "--strict needs --prometheus"),
    ],
)
def test_an_invalid_command_line_is_rejected(tmp_path: Path, arguments: list[str], line: str) -> None:
    done = deckwatch(tmp_path, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and the source distribution, and return their folder."""
    if not importlib.util.find_spec("hatchling"):
        pytest.skip("hatchling is not installed, and a build may not download it")
    folder = tmp_path_factory.mktemp("built")
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]
    source = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d"]
    for command in ([*wheel, str(folder), str(ROOT)], [*source, str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_contains_only_the_pack_of_those_folders(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]

    in_pack = {name for name in names if name.startswith("deckwatch/pack/data/")}
    assert in_pack == {
        f"deckwatch/pack/data/{part}/{name}" for part in ("dashboards", "alerts") for name in shipped(part)
    }
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"deckwatch", "deckwatch_exporters"}


def test_the_source_distribution_contains_the_pack(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as source:
        names = {name.partition("/")[2] for name in source.getnames()}

    assert {f"{part}/{name}" for part in ("dashboards", "alerts") for name in shipped(part)} <= names
    assert not [name for name in names if name.startswith(("alerts/tests", "dashboards/deckwatch_dashboards"))]


def test_the_commands_work_from_an_installed_wheel(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    there = {"PYTHONPATH": str(tmp_path / "site")}
    found = subprocess.run(
        [sys.executable, "-c", "import deckwatch.pack; print(deckwatch.pack.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **there},
        check=True,
    )
    assert found.stdout.startswith(str(tmp_path / "site"))

    for part in ("dashboards", "alerts"):
        listed = deckwatch(tmp_path, part, "list", **there)
        assert listed.returncode == 0, listed.stderr
        exported = deckwatch(tmp_path, part, "export", part, **there)
        assert exported.returncode == 0, exported.stderr
        assert {name: (tmp_path / part / name).read_bytes() for name in shipped(part)} == shipped(part)
    assert "deckwatch-host" in deckwatch(tmp_path, "dashboards", "list", **there).stdout
    assert "alerts and " in deckwatch(tmp_path, "alerts", "check", **there).stdout
