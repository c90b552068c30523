"""Series of many agents for a Prometheus, made from the catalogue: all metrics that the dashboards use, or others.

Jobs of the dashboards:
- `many`: 50 agents, scraped whole every 15 s, so series of targets have the label `target`,
- `minute`: 3 agents, scraped whole every 60 s,
- `discovered`: 2 agents with a target "main.db" each, which is the same server, through service discovery,
- `stranger`: other exporters.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboards.boards import every_query, selectors
from deckwatch.cli.catalogue import catalogue
from deckwatch.collection.registry import Registry
from deckwatch.metrics.catalogue import Entry
from services import installed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import TextIO


#: The time of the last samples, in Unix seconds: in the middle of one of Prometheus' blocks of two hours.
END = 248_000 * 7200 + 3600
AGENTS = 50
_DURATION = {15: 300, 60: 900}  # seconds of data, by scrape interval

#: Metrics that Prometheus itself adds to each scrape.
_SCRAPE = ("up", "scrape_duration_seconds", "scrape_samples_scraped")
#: Values of labels for which dashboards ask. Other labels have one value.
VALUES: Mapping[str, tuple[str, ...]] = {
    "error_type": ("", "OSError"),
    "db_client_connection_state": ("idle", "used"),
    "datname": ("app", "shop.eu"),
    "fstype": ("ext4",),
    "groupname": ("web", "worker"),
    "job": ("shop",),  # of log_messages_total
    "level": ("error", "info"),
    "memtype": ("resident",),
    "mode": ("idle", "user", "system"),
    "quantile": ("50", "99", "99.9"),
    "le": ("0.1", "+Inf"),
    "outcome": ("failed", "ok"),
    "reason": ("spool_full",),
    "state": ("active", "failed", "spare", "Zombie"),
    "ctxswitchtype": ("voluntary", "nonvoluntary"),
}
#: Metrics whose label `state` has other values.
_SESSION_STATES = ("active", "idle in transaction")
#: Gauges that are 1 on half of the agents and 0 on the others, as states and faults are.
_FLAGS = (
    *("*_up", "up", "*_success", "*_status", "*_readonly", "*_device_error", "*_disabled", "*_paused", "*_active"),
    *(
        "*_link_up",
        "*_degraded",
        "*_is_replica",
        "*_shipping",
        "*_successful",
        "*_reading",
        "*_limited",
        "node_systemd_unit_state",
    ),
)


@dataclass(frozen=True)
class Job:
    name: str
    agents: int
    scrape_interval: int
    discovered: bool = False
    targets: tuple[str, ...] = ("main.db",)


JOBS = (Job("many", AGENTS, 15), Job("minute", 3, 60), Job("discovered", 2, 15, discovered=True))


def write_blocks(
    folder: Path,
    names: Iterable[str] = (),
    jobs: Iterable[Job] = JOBS,
    values: Mapping[str, tuple[str, ...]] = VALUES,
) -> None:
    """Write the series into the data directory of a Prometheus in `folder`.

    `names` are those of metrics, by default those of the dashboards. `values` are those of labels.
    """
    text = folder / "series.txt"
    with text.open("w") as file:
        for name, entry in _entries(set(names) or _used()).items():
            for job in jobs:
                for agent in range(job.agents):
                    _write_metric(file, name, entry, job, agent, values)
        _write_scrapes(file, jobs)
        file.write("# EOF\n")
    command = [
        installed("promtool"),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(text),
        str(folder / "prometheus"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    text.unlink()


#: Metrics of a config, which dashboards select by the variable `metric`.
_BUSINESS = {
    "shop_orders_total": Entry("shop_orders_total", "counter", (), "", "Orders.", "business"),
    "shop_refunds_total": Entry("shop_refunds_total", "counter", (), "", "Refunds.", "business"),
    "shop_open_orders": Entry("shop_open_orders", "gauge", (), "", "Open orders.", "business"),
    "shop_open_carts": Entry("shop_open_carts", "gauge", (), "", "Open carts.", "business"),
}
#: Metrics of Prometheus and Alertmanager, and what the rules of a config's objectives record.
_OTHERS = {
    name: Entry(name, kind, labels, "", "", "prometheus")
    for name, kind, labels in (
        ("prometheus_sd_discovered_targets", "gauge", ("config",)),
        ("prometheus_notifications_dropped_total", "counter", ("alertmanager",)),
        ("alertmanager_notifications_failed_total", "counter", ("integration",)),
        ("slo:error_ratio:rate5m", "gauge", ("slo",)),
        ("slo:error_budget_remaining:ratio", "gauge", ("slo",)),
    )
}


def _used() -> set[str]:
    """The metrics that the dashboards and their variables use."""
    names = {name for query in every_query() if not query.is_loki for name, _ in selectors(query.expression)}
    return names | {"node_uname_info", "deckwatch_collector_success", *_BUSINESS}


def _entries(names: set[str]) -> dict[str, Entry]:
    """The series, each with its metric in the catalogue."""
    entries = sorted(catalogue(Registry.installed()), key=lambda entry: "*" in entry.name)
    found = {}
    without_entry = {**_OTHERS, **_BUSINESS}
    for name in sorted(names - set(_SCRAPE) - {"ALERTS"}):
        if name in without_entry:
            found[name] = without_entry[name]
            continue
        metric = re.sub("_(bucket|count|sum)$", "", name)
        found[name] = next(it for it in entries if {name, metric} & set(fnmatch.filter((name, metric), it.name)))
    return found


def _write_metric(
    file: TextIO, name: str, entry: Entry, job: Job, agent: int, options: Mapping[str, tuple[str, ...]]
) -> None:
    labels = list(entry.labels)
    if name.endswith("_bucket"):
        labels.append("le")
    if name == "redis_latency_percentiles_usec":
        labels.append("quantile")
    if name == "pg_stat_activity_count":
        labels += ["usename", "application_name"]
    for number, values in enumerate(itertools.product(*(_options(name, label, options) for label in labels))):
        # Prometheus renames a label that the scrape has too.
        own = {"exported_job" if label == "job" else label: it for label, it in zip(labels, values, strict=True)}
        for identity in _identities(job, agent, entry.exporter, both="collector" in entry.labels):
            _write_series(file, name, {**own, **identity}, job, agent, number, entry.type)


def _options(name: str, label: str, values: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if label == "state" and name.startswith("pg_"):
        return _SESSION_STATES
    if label == "state" and name.startswith("circuit_"):
        return ("closed", "open")
    if label == "status" and name.startswith("http_"):
        return ("200", "500")
    return values.get(label, (f"{label}-0",))


def _identities(job: Job, agent: int, exporter: str, both: bool = False) -> Iterator[dict[str, str]]:
    """The labels that Prometheus adds to a series of the agent, of its target, or of `both`."""
    address = f"host{agent}:9797"
    of_target = exporter in ("redis", "postgres", "pgbouncer", "queues", "business", "http_probe")
    if not job.discovered:
        own = {"job": job.name, "instance": address}
        if both or not of_target:
            yield own
        if both or of_target:
            yield from ({**own, "target": target} for target in job.targets)
        return
    own = {"job": job.name, "agent": address}
    if both or not of_target:
        yield {**own, "instance": address, "exporter": "deckwatch"}
    if both or of_target:
        for target in job.targets:
            yield {**own, "instance": target, "exporter": exporter if of_target else "postgres"}


def _write_scrapes(file: TextIO, jobs: Iterable[Job]) -> None:
    for name in _SCRAPE:
        for job in jobs:
            for agent in range(job.agents):
                for identity in (
                    *_identities(job, agent, "deckwatch"),
                    *(_identities(job, agent, "postgres") if job.discovered else ()),
                ):
                    _write_series(file, name, identity, job, agent, 0, "gauge")
        stranger = Job("stranger", 1, 15)
        _write_series(file, name, {"job": "stranger", "instance": "other:9100"}, stranger, 0, 0, "gauge")
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        _write_series(file, name, {"job": "stranger", "instance": "other:9100"}, stranger, 0, 0, "counter")
    firing = {"alertstate": "firing", "severity": "warning"}
    for alertname, instance in (("Watchdog", {}), ("HostDown", {"job": "many", "instance": "host1:9797"})):
        _write_series(file, "ALERTS", {"alertname": alertname, **firing, **instance}, JOBS[0], 0, 0, "gauge")


def _write_series(
    file: TextIO, name: str, labels: dict[str, str], job: Job, agent: int, number: int, kind: str
) -> None:
    matchers = ",".join(f'{label}="{value}"' for label, value in labels.items())
    series = f"{name}{{{matchers}}}"
    first = END - _DURATION[job.scrape_interval]
    for moment in range(first, END + 1, job.scrape_interval):
        file.write(f"{series} {_value(name, kind, agent, number, moment - first, moment)} {moment}\n")


def _value(name: str, kind: str, agent: int, number: int, elapsed: int, moment: int) -> float:
    if name == "job_last_failure_timestamp_seconds":
        return moment - agent - (50 if agent % 2 else 500)  # on half of the agents, the last run has failed
    if "timestamp" in name or "start_time" in name or name.endswith(("_time_seconds", "_receipt_time", "_autovacuum")):
        return moment - 100 - agent
    if name == "node_filesystem_device_error":
        return (agent + number + 1) % 2  # not together with node_filesystem_readonly
    if name == "pg_stat_user_indexes_idx_scan_total":
        return agent * elapsed
    if any(fnmatch.fnmatchcase(name, flag) for flag in _FLAGS):
        return (agent + number) % 2
    if name.endswith("_parse_errors") or name == "deckwatch_series_dropped":
        return agent % 3
    if name == "queue_length":
        return 1e6 - (1 + agent) * elapsed
    if name == "node_filesystem_avail_bytes":
        return 1e9 - 1e6 * elapsed
    if name.endswith(("_size_bytes", "_max_bytes", "MemTotal_bytes")) or "_max" in name or "limit" in name:
        return 2e9
    if kind == "counter" or name.endswith(("_bucket", "_count", "_total", "_time")):
        return (1 + agent + number) * elapsed
    return 1 + agent + number
