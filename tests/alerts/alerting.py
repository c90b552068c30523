"""A real Prometheus with the shipped rules and a real Alertmanager with the shipped routes, both with short times, and
a webhook that notes what reaches it."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import yaml

from services import Program, free_port, installed, running

from .rule_files import ALERTS, RULE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: A minute and a half becomes a second; what is looked back over keeps room for some samples, one a second.
FACTOR = 90
SHORTEST_RANGE = 4

#: Collectors that would raise alerts about the machine that runs the tests: busy CPUs, a clock that is not set.
NOT_WATCHED = """
    arp bonding cgroup conntrack cpu cpufreq diskstats dmi edac entropy filefd hwmon interrupts kernel_hung loadavg
    mdadm meminfo meminfo_numa netclass netdev netstat nvme os powersupplyclass pressure processes rapl schedstat
    selinux sockstat softirqs softnet stat systemd tcpstat textfile thermal_zone time timex udp_queues uname vmstat
""".split()  # noqa: SIM905

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?P<before>for: |\[|offset )(?P<number>\d+)(?P<unit>[smhd])\b")


def shortened(rules: str, factor: int = FACTOR) -> str:
    """The same rules with shorter durations: `for`, `keep_firing_for`, ranges, offsets and the prediction's hours."""

    def shorter(found: re.Match[str]) -> str:
        seconds = round(int(found["number"]) * _SECONDS[found["unit"]] / factor)
        return f"{found['before']}{max(seconds, 1 if 'for' in found['before'] else SHORTEST_RANGE)}s"

    return _DURATION.sub(shorter, rules).replace("* 3600)", f"* {3600 // factor})")


def to_webhook(config: str, url: str) -> dict[str, Any]:
    """The same routes, waits and inhibitions; each receiver is the webhook at `url`."""
    content: dict[str, Any] = yaml.safe_load(config)
    content["global"] = {"resolve_timeout": "1m"}
    del content["templates"]
    content["receivers"] = [
        {"name": receiver["name"], "webhook_configs": [{"url": url, "send_resolved": True}]}
        for receiver in content["receivers"]
    ]
    return content


def redirected(config: str, url: str) -> str:
    """The same routes and inhibitions with shorter waits; each receiver is the webhook at `url`."""
    content = to_webhook(config, url)
    _shorten_waits(content["route"])
    return yaml.safe_dump(content)


def _shorten_waits(route: dict[str, Any]) -> None:
    for name in ("group_wait", "group_interval", "repeat_interval"):
        if value := route.get(name):
            seconds = int(value[:-1]) * _SECONDS[value[-1]]
            least = {"group_wait": 1, "group_interval": 3, "repeat_interval": 600}[name]
            most = {"group_wait": 10, "group_interval": 3, "repeat_interval": 600}[name]
            route[name] = f"{min(max(seconds // 30, least), most)}s"
    for child in route.get("routes", []):
        _shorten_waits(child)


@dataclass(frozen=True)
class Notice:
    """One alert in one message that reached the webhook."""

    receiver: str
    status: str  # firing or resolved
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.labels["alertname"]


@dataclass(frozen=True)
class Message:
    """One message that reached the webhook: it fires while one of its alerts does."""

    receiver: str
    status: str  # firing or resolved
    notices: tuple[Notice, ...]
    arrived: float = field(default_factory=time.time)

    def __str__(self) -> str:
        about = (f"{it.status} {it.name} {it.labels.get('target') or it.labels.get('instance')}" for it in self.notices)
        return f"{self.arrived:.1f} {self.receiver} {self.status}: {', '.join(about)}"


@dataclass
class Webhook:
    url: str
    notices: list[Notice] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    def since(self, start: int, status: str) -> list[Notice]:
        return [notice for notice in self.notices[start:] if notice.status == status]


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    port = free_port()
    hook = Webhook(f"http://127.0.0.1:{port}/")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            notices = [
                Notice(message["receiver"], alert["status"], alert["labels"], alert["annotations"])
                for alert in message["alerts"]
            ]
            hook.notices += notices
            hook.messages.append(Message(message["receiver"], message["status"], tuple(notices)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def alertmanager(folder: Path, config: str) -> contextlib.AbstractContextManager[Program]:
    port = free_port()
    path = folder / "alertmanager.yml"
    path.write_text(config)
    command = [
        installed("prometheus-alertmanager"),
        f"--config.file={path}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    return running(command, f"http://127.0.0.1:{port}", "/-/ready", folder / "alertmanager.log")


def alerting_prometheus(
    folder: Path, agent: Program, alertmanager: Program
) -> contextlib.AbstractContextManager[Program]:
    """Run a Prometheus with the shortened rules that scrapes the agent every second."""
    for path in RULE_FILES:
        (folder / path.name).write_text(shortened(path.read_text()))
    job = {"job_name": "deckwatch", "static_configs": [{"targets": [agent.url.removeprefix("http://")]}]}
    return evaluating_prometheus(folder, [job], alertmanager, 1, "--rules.alert.resend-delay=1s")


def evaluating_prometheus(
    folder: Path, jobs: list[dict[str, Any]], alertmanager: Program, interval: int, *flags: str
) -> contextlib.AbstractContextManager[Program]:
    """Run a Prometheus with the rules in the folder. `interval`: seconds between two evaluations, and two scrapes."""
    port = free_port()
    every = f"{interval}s"
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(folder / "*.rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.url.removeprefix("http://")]}]}]},
        "scrape_configs": jobs,
    }
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))
    command = [
        installed("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    return running(command, f"http://127.0.0.1:{port}", "/-/ready", folder / "prometheus.log")


def shipped_alertmanager_config() -> str:
    return (ALERTS / "alertmanager.yml").read_text()
