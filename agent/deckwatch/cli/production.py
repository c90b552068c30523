"""`deckwatch check --production`: what a monitoring setup needs before people rely on it.

Each point is `ok` or `failed` with what to do, or `unknown` where Deckwatch cannot find out. If the config sets
`prometheus_url`, Prometheus and its Alertmanagers are queried over HTTP.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import yaml

from deckwatch.config import split_listen
from deckwatch.config.plain_secrets import plain_secrets, readable_secret_files
from deckwatch.pack.gate import WATCHDOG
from deckwatch.pack.json_api import ApiError, JsonApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deckwatch.config import Config

#: Hosts and domains that are reserved for examples (RFC 2606).
_EXAMPLE = re.compile(r"\bexample\.(?:com|net|org)\b")
_BACKUP_JOBS = 'max by (job_name) (job_last_success_timestamp_seconds{job_name=~"(?i).*(backup|dump).*"})'
_BACKUP_AGE = 26 * 3600  # seconds: a day and some hours for a slow night


class Point(NamedTuple):
    """One point of the list."""

    subject: str
    state: Literal["ok", "failed", "unknown"]
    detail: str
    remedy: str = ""


def production_points(config: Config, state: Path, timeout: float) -> Iterator[Point]:
    """Yield all points. `state` is the state folder; each request may take `timeout` seconds. Read-only."""
    yield from _listener(config)
    yield from _secrets(config)
    if config.logs is None:
        yield Point("production.spool", "ok", "no logs are shipped")
    else:
        yield from _logs(config, state)
    yield from _prometheus(config.settings.prometheus_url, timeout)


def _listener(config: Config) -> Iterator[Point]:
    listen = config.settings.listen
    host = split_listen(listen)[0]
    tls = authentication = False
    if config.settings.web_config is not None:
        from deckwatch.http.web_config import WebConfigFile  # only where there is one

        rules = WebConfigFile(config.settings.web_config)
        tls, authentication = rules.uses_tls, rules.authenticates
    for subject, is_on, remedy in (
        ("production.tls", tls, "set web_config with tls_server_config"),
        ("production.authentication", authentication, "set web_config with basic_auth_users or client certificates"),
    ):
        if is_on:
            yield Point(subject, "ok", f"required on {listen}")
        elif _is_loopback(host):
            yield Point(subject, "ok", f"not needed: only this machine can reach {listen}")
        else:
            yield Point(subject, "failed", f"{listen} can be reached from other machines without it", remedy)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _secrets(config: Config) -> Iterator[Point]:
    if config.path is None:
        yield Point("production.secrets", "ok", "there is no config file")
        return
    in_config, readable = plain_secrets(config.path), readable_secret_files(config.path)
    if in_config:
        remedy = "use the key with _file, such as password_file, or ${VARIABLE}"
        yield Point("production.secrets", "failed", f"the config contains secrets: {_listed(in_config)}", remedy)
    if readable:
        names = [str(file) for file in readable]
        remedy = f"chmod o= {' '.join(names)}"
        yield Point("production.secrets", "failed", f"all users can read {_listed(names)}", remedy)
    if not in_config and not readable:
        yield Point("production.secrets", "ok", "no secret is in the config or in a file that all users can read")


def _logs(config: Config, state: Path) -> Iterator[Point]:
    from deckwatch.logs.service import spool_folder  # only where logs are shipped

    assert config.logs is not None
    yield _spool(spool_folder(config.logs, state / "logs"), config.logs.spool.max_bytes)
    for loki in config.logs.destinations:
        parts = urlsplit(loki.url)
        subject = f"production.loki {loki.name or parts.hostname}"
        if parts.scheme == "https" or _is_loopback(parts.hostname or ""):
            yield Point(subject, "ok", "logs are encrypted, or stay on this machine")
        else:
            yield Point(subject, "failed", "logs are sent unencrypted to another machine", "use https:// in its url")
        remedy = "see limits_config.retention_period and compactor.retention_enabled in Loki's config"
        yield Point(f"production.retention {loki.name or parts.hostname}", "unknown", "Loki does not say", remedy)


def _spool(folder: Path, limit: int) -> Point:
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        disk = os.statvfs(nearest)
        held = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()) if folder.is_dir() else 0
    except OSError as failure:
        return Point("production.spool", "unknown", f"{nearest}: {failure.strerror}")
    room = disk.f_bavail * disk.f_frsize + held
    sizes = f"{room // 1024**2} MiB free on the disk of {nearest}, and the spool may take {limit // 1024**2} MiB"
    if room < limit:
        return Point("production.spool", "failed", sizes, "free space, or set a lower logs.spool.max_bytes")
    return Point("production.spool", "ok", sizes)


def _prometheus(url: str | None, timeout: float) -> Iterator[Point]:
    subjects = ("production.retention", "production.rules", "production.receivers", "production.backups")
    if url is None:
        for subject in subjects:
            yield Point(subject, "unknown", "Prometheus is not known", "set prometheus_url")
        return
    prometheus = JsonApi("Prometheus", url, timeout=timeout)
    for subject, ask in zip(subjects, (_retention, _rules, _receivers, _backups), strict=True):
        try:
            yield from ask(prometheus, timeout)
        except ApiError as failure:
            yield Point(subject, "unknown", str(failure))
        except (AttributeError, KeyError, TypeError, ValueError, IndexError):
            yield Point(subject, "unknown", "prometheus_url does not answer like Prometheus")


def _retention(prometheus: JsonApi, _timeout: float) -> Iterator[Point]:
    flags = prometheus.get("/api/v1/status/flags")[1]["data"]
    kept, size = flags["storage.tsdb.retention.time"], flags["storage.tsdb.retention.size"]
    kept = "15d, the default" if kept == "0s" else kept
    at_most = "" if size == "0B" else f", at most {size}"
    yield Point("production.retention", "ok", f"Prometheus keeps data for {kept}{at_most}")


def _rules(prometheus: JsonApi, _timeout: float) -> Iterator[Point]:
    groups = prometheus.get("/api/v1/rules?type=alert")[1]["data"]["groups"]
    names = {rule["name"] for group in groups for rule in group["rules"]}
    if WATCHDOG in names:
        yield Point("production.rules", "ok", f"Prometheus evaluates {len(names)} alerts")
    else:
        remedy = "deckwatch alerts export DIR, and name DIR/*.rules.yml under rule_files in prometheus.yml"
        yield Point("production.rules", "failed", "Prometheus does not evaluate Deckwatch's alerts", remedy)


def _receivers(prometheus: JsonApi, timeout: float) -> Iterator[Point]:
    known = prometheus.get("/api/v1/alertmanagers")[1]["data"]["activeAlertmanagers"]
    if not known:
        remedy = "name it under alerting in prometheus.yml"
        yield Point("production.receivers", "failed", "Prometheus sends alerts to no Alertmanager", remedy)
    for one in known:
        base = one["url"].removesuffix("/api/v2/alerts")
        status = JsonApi("Alertmanager", base, timeout=timeout).get("/api/v2/status")[1]
        unset = _unset_receivers(yaml.safe_load(status["config"]["original"]))
        if unset:
            remedy = "set their addresses and secrets in alertmanager.yml"
            yield Point("production.receivers", "failed", f"{base}: {_listed(unset)}", remedy)
        else:
            yield Point("production.receivers", "ok", f"every route of {base} leads to a receiver that is set")


def _unset_receivers(config: Any) -> list[str]:
    """Return what is unset in an Alertmanager's config. Its secrets read `<secret>`."""
    shared = config.get("global") or {}
    unset = []
    for receiver in config["receivers"]:
        if receiver["name"] not in _routed(config["route"]):
            continue
        ways = {kind: ways for kind, ways in receiver.items() if kind.endswith("_configs") and ways}
        if not ways:
            unset.append(f"receiver {receiver['name']} has no way to send")
        elif _EXAMPLE.search(repr(ways)) or ("email_configs" in ways and _EXAMPLE.search(repr(shared))):
            unset.append(f"receiver {receiver['name']} still has an address of the example")
    return unset


def _routed(route: Any) -> set[str]:
    return {route.get("receiver", "")}.union(*(_routed(child) for child in route.get("routes") or ()))


def _backups(prometheus: JsonApi, _timeout: float) -> Iterator[Point]:
    answer = prometheus.post_form("/api/v1/query", {"query": f"time() - {_BACKUP_JOBS}"})
    ages = {one["metric"].get("job_name", ""): float(one["value"][1]) for one in answer["data"]["result"]}
    if not ages:
        remedy = "run them with `deckwatch job run --name backup -- COMMAND`"
        yield Point("production.backups", "unknown", "no job with backup or dump in its name reports", remedy)
    for name, age in sorted(ages.items()):
        detail = f"job {name} last succeeded {age / 3600:.0f} hours ago"
        yield Point("production.backups", "ok" if age <= _BACKUP_AGE else "failed", detail)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
