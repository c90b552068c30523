"""The whole agent as a process: start, collectors that hang or raise, reload and stop."""

from __future__ import annotations

import contextlib
import json
import signal
import urllib.parse
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from services import Program, agent, deckwatch_command, fetch, free_port, prometheus, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Third-party exporters, registered through the entry point group like those of any distribution.
THIRD_PARTY = """
import os, time
from deckwatch.exporter import Exporter, Gauge, Settings, Target
from prometheus_client.core import GaugeMetricFamily

VALUE = Gauge("trouble_value", "A value.", ["n"])

class TroubleSettings(Settings):
    kind: str = "good"

class Trouble:
    def __init__(self, kind):
        self.kind = kind

    def collect(self):
        if self.kind == "sleeps":
            time.sleep(3600)
        if self.kind == "raises":
            raise RuntimeError("deliberate error")
        if self.kind == "label":
            yield VALUE(1, wrong="x")
        for n in range(1100 if self.kind == "floods" else 1):
            yield VALUE(n, n=str(n))

TROUBLE = Exporter(
    name="trouble", settings=TroubleSettings, named=True, max_series=100,
    open=lambda settings, context: Target({"trouble": Trouble(settings.kind)}),
)

class Client:
    def collect(self):
        yield GaugeMetricFamily("from_client", "Made by prometheus_client.", value=42)
"""


@pytest.fixture
def third_party(tmp_path: Path) -> dict[str, str]:
    """Return the environment of an agent with that distribution installed."""
    folder = tmp_path / "site"
    (folder / "trouble-1.0.dist-info").mkdir(parents=True)
    (folder / "trouble_exporter.py").write_text(THIRD_PARTY)
    (folder / "trouble-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: trouble\nVersion: 1.0\n")
    (folder / "trouble-1.0.dist-info" / "entry_points.txt").write_text(
        "[deckwatch.exporters]\ntrouble = trouble_exporter:TROUBLE\nclient = trouble_exporter:Client\n"
    )
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Program]:
    with agent(tmp_path) as program:
        yield program


def series(program: Program, path: str = "/metrics") -> dict[str, float]:
    lines = fetch(program.url + path)[1].splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_a_ready_agent_has_its_first_metrics_without_waiting_for_an_interval(tmp_path: Path) -> None:
    with agent(tmp_path, "interval: 1h\n") as program:
        assert "node_load1" in series(program)


def test_collectors_that_hang_raise_flood_or_mislabel_affect_no_others(
    tmp_path: Path, third_party: dict[str, str]
) -> None:
    kinds = ("good", "sleeps", "raises", "floods", "label")
    targets = "".join(f"    - {{name: {kind}, kind: {kind}}}\n" for kind in kinds)
    config = f"interval: 2s\nexporters:\n  system: {{}}\n  client: {{}}\n  trouble:\n{targets}"
    with agent(tmp_path, config, **third_party) as program:

        def success(kind: str) -> float | None:
            return series(program).get(f'deckwatch_collector_success{{target="{kind}",collector="trouble"}}')

        until(lambda: success("sleeps") == 0, what="the hung collector being reported")
        # All this is served while one collector sleeps for an hour. The benchmarks measure the response time.
        found = series(program)
        status = json.loads(fetch(program.url + "/api/v1/status")[1])

    assert {kind: found[f'deckwatch_collector_success{{target="{kind}",collector="trouble"}}'] for kind in kinds} == {
        "good": 1, "sleeps": 0, "raises": 0, "floods": 1, "label": 0
    }  # fmt: skip
    assert found['trouble_value{target="good",n="0"}'] == 0
    assert not any(
        'target="sleeps"' in name or 'target="raises"' in name for name in found if name.startswith("trouble")
    )
    assert sum(name.startswith('trouble_value{target="floods"') for name in found) == 100
    assert found['deckwatch_series_dropped{target="floods",collector="trouble"}'] == 1000
    assert found["from_client"] == 42
    assert "node_load1" in found
    errors = {entry["target"]: entry["error"] for entry in status["collectors"] if entry["name"] == "trouble"}
    assert errors["raises"] == "RuntimeError: deliberate error"
    assert "takes the labels (n)" in errors["label"]
    states = {entry["target"]: entry["state"] for entry in status["collectors"] if entry["name"] == "trouble"}
    assert (states["sleeps"], states["raises"], states["good"]) == ("hung", "failing", "ok")
    assert program.printed.count(r"trouble \"raises\" failed") == 1


def test_collection_follows_a_real_prometheus_and_finishes_before_its_scrapes(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    with agent(tmp_path / "agent", "interval: 15s\n") as program, prometheus(tmp_path, {"d": program}, "6s") as server:

        def query(expression: str) -> list[dict[str, list[str]]]:
            url = f"{server.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
            found: list[dict[str, list[str]]] = json.loads(fetch(url)[1])["data"]["result"]
            return found

        # Younger than half a period at three consecutive scrapes. If they ran at their own interval or right after a
        # scrape, at least one would be older. The benchmarks measure the exact age.
        # The key figures of the status page have a fixed interval.
        ages = 'deckwatch_snapshot_age_seconds{collector!="deckwatch.key_figures"}[20s]'
        until(
            lambda: query(f"max(max_over_time({ages})) < 3 and min(count_over_time({ages})) >= 3"),
            120,
            "fresh snapshots at three scrapes in a row",
        )
        failed = query("up == 0")

    assert failed == []


def test_without_a_scraper_collection_continues_at_its_interval(tmp_path: Path) -> None:
    with agent(tmp_path, "interval: 500ms\n") as program:

        def run() -> tuple[float, float]:
            """Return when the last run of a collector ended and when the next one is scheduled."""
            collectors = json.loads(fetch(program.url + "/api/v1/status")[1])["collectors"]
            (it,) = (it for it in collectors if it["name"] == "system.cpu")
            return it["last_run"], it["next_run"]

        ends, plans = set(), set()

        def seen() -> bool:
            ended, planned = run()
            ends.add(ended)
            plans.add(planned)
            return len(ends) >= 5 and 0.5 in gaps()

        def gaps() -> list[float]:
            return [round(later - earlier, 3) for earlier, later in pairwise(sorted(plans))]

        until(seen, what="five runs")

    assert min(gaps()) == 0.5  # longer if a schedule was not observed or a run was late


def test_a_reload_applies_a_valid_config_and_keeps_the_old_one_for_an_invalid_one(tmp_path: Path) -> None:
    config = tmp_path / "deckwatch.yml"
    reloaded = "deckwatch_config_last_reload_successful"
    with agent(tmp_path, "interval: 200ms\nthresholds: {cpu_ratio: 0.5}\n") as program:
        assert series(program)["deckwatch_threshold_cpu_ratio"] == 0.5

        config.write_text("interval: 200ms\nthresholds: {cpu_ratio: much}\n")
        program.process.send_signal(signal.SIGHUP)
        until(lambda: series(program)[reloaded] == 0, what="the metric of the failed reload")
        assert series(program)["deckwatch_threshold_cpu_ratio"] == 0.5
        assert "deckwatch.yml:2: thresholds.cpu_ratio: found 'much'; expected a number" in program.printed

        config.write_text("interval: 200ms\nthresholds: {cpu_ratio: 0.7}\nexporters: {system: {disable: [loadavg]}}\n")
        program.process.send_signal(signal.SIGHUP)
        until(lambda: series(program)[reloaded] == 1)
        until(lambda: series(program)["deckwatch_threshold_cpu_ratio"] == 0.7)
        until(lambda: "node_load1" not in series(program))
        until(lambda: "node_memory_MemTotal_bytes" in series(program))


def test_an_unchanged_target_keeps_its_samples_across_a_reload(tmp_path: Path, third_party: dict[str, str]) -> None:
    config = "interval: 300s\nenable_lifecycle: true\nexporters: {trouble: [{name: a}, {name: b, kind: raises}]}\n"
    stamp = 'deckwatch_collector_last_success_timestamp_seconds{target="a",collector="trouble"}'
    with agent(tmp_path, config, **third_party) as program:
        before = until(lambda: series(program).get(stamp))
        (tmp_path / "deckwatch.yml").write_text(config.replace("kind: raises", "kind: good"))

        status, _ = fetch_post(program.url + "/-/reload")

        assert status == 200
        until(lambda: series(program).get('trouble_value{target="b",n="0"}') == 0)
        assert series(program)[stamp] == before


def fetch_post(url: str) -> tuple[int, str]:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_reloading_over_http_is_rejected_unless_enabled(plain: Program) -> None:
    status, text = fetch_post(plain.url + "/-/reload")

    assert status == 403
    assert "enable_lifecycle" in text


def test_a_hundred_reloads_leak_no_memory_or_file_descriptors(tmp_path: Path) -> None:
    config = tmp_path / "deckwatch.yml"
    text = "enable_lifecycle: true\nexporters: {system: {disable: [%s]}}\n"
    with agent(tmp_path, text % "arp") as program:

        def reload_some(count: int) -> None:
            for number in range(count):
                config.write_text(text % ("arp" if number % 2 else "uname"))
                assert fetch_post(program.url + "/-/reload")[0] == 200

        def resident() -> int:
            status = Path(f"/proc/{program.process.pid}/status").read_text()
            return int(status.split("VmRSS:")[1].split()[0])  # kB

        def opened() -> Counter[str]:
            """How often each file is open. Sockets and pipes share a name."""
            found: Counter[str] = Counter()
            for link in Path(f"/proc/{program.process.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    found[str(link.readlink()).partition(":[")[0]] += 1
            return found

        def has_run() -> bool:
            return "\nnode_load1 " in program.metrics()

        reload_some(30)
        until(has_run, what="the last target having opened its files")
        before, few = resident(), max(opened().values())
        reload_some(100)
        until(has_run, what="the last target having opened its files")
        # What a reload replaces is closed when its last run has ended. How many files the last one keeps open depends
        # on the processes of the host: a file that is open many times is one that was not closed.
        until(lambda: max(opened().values()) < few + 20, what="the files of the replaced targets being closed")
        after = resident()

    assert after - before < 3000  # kB


def test_the_openmetrics_exposition_passes_a_strict_parser(plain: Program) -> None:
    status, text = fetch(plain.url + "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})

    assert status == 200
    names = {sample.name for family in parse_openmetrics(text) for sample in family.samples}
    assert {"node_load1", "node_cpu_seconds_total", "process_cpu_seconds_total"} <= names


def test_every_series_of_the_live_agent_is_in_the_catalogue(plain: Program) -> None:
    from deckwatch.cli.catalogue import catalogue
    from deckwatch.collection.registry import Registry

    declared = {entry.name for entry in catalogue(Registry.installed())}
    patterns = [name.split("*") for name in declared if "*" in name]
    exposed = {line.split()[2] for line in plain.metrics().splitlines() if line.startswith("# TYPE")}

    unknown = {
        name
        for name in exposed - declared
        if not any(name.startswith(before) and name.endswith(after) for before, after in patterns)
    }
    assert unknown == set()


def test_the_agent_stops_cleanly_while_a_collector_hangs(tmp_path: Path, third_party: dict[str, str]) -> None:
    config = "exporters: {trouble: [{name: a, kind: sleeps}]}\n"
    port = free_port()
    (tmp_path / "deckwatch.yml").write_text(config)
    command = deckwatch_command("run", "--listen", f"127.0.0.1:{port}")
    with running(command, f"http://127.0.0.1:{port}", "/-/healthy", tmp_path / "log", third_party, tmp_path) as program:
        program.process.send_signal(signal.SIGTERM)
        code = program.process.wait(60)  # the collector sleeps for an hour

    assert code == 0
    last = json.loads(program.printed.splitlines()[-1])
    assert (last["event"], last["level"]) == ("stopped", "INFO")
