"""The config of Promtail: its clients and the scrape_configs for files, the journal, and logs of containers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .conversion import Conversion, LinedMap, NotConvertible, read_yaml
from .promtail_relabeling import relabeled, relabeled_journal
from .promtail_rule import Rule
from .promtail_stages import convert_stages

if TYPE_CHECKING:
    from collections.abc import Iterator

_TARGETS = (
    "syslog", "gcplog", "push", "loki_push_api", "windows_events", "kafka", "gelf", "cloudflare", "heroku_drain",
    "azure_event_hubs", "consul_sd_configs", "consulagent_sd_configs", "file_sd_configs",
)  # fmt: skip
_KNOWN = frozenset(
    (
        *("job_name", "pipeline_stages", "static_configs", "relabel_configs", "journal", "encoding", "decompression"),
        *("kubernetes_sd_configs", "docker_sd_configs", *_TARGETS),
    )
)
_TOP_LEVEL = frozenset(("server", "client", "clients", "positions", "scrape_configs", "tracing", "target_config"))
_PODS = "/var/log/pods/*/*/*.log"
_CONTAINERS = "/var/lib/docker/containers/*/*-json.log"


def convert(text: str) -> Conversion:
    """The section `logs`. Raises NotConvertible."""
    found = Conversion()
    document = read_yaml(text)
    files: list[dict[str, Any]] = []
    journals: list[dict[str, Any]] = []
    for scrape in document.maps("scrape_configs"):
        for key in scrape:
            if key in _TARGETS or key not in _KNOWN:
                found.lost(scrape.line_of(key), key)
        files += _files(found, scrape)
        if "journal" in scrape:
            journals.append(_journal(found, scrape))
    if not files and not journals:
        raise NotConvertible("no scrape_config in it can be converted. Is it the config of Promtail?")
    clients = [*document.maps("clients"), *([document.map("client")] if document.get("client") else [])]
    made = [_client(found, client) for client in clients]
    if not made:
        found.changed(0, "there is no client. Set logs.loki.url.")
        made = [{"url": "${LOKI_URL}"}]
    logs: dict[str, Any] = {"loki": made[0] if len(made) == 1 else made}
    logs |= {"files": files} if files else {}
    logs |= {"journal": journals} if journals else {}
    found.config = {"logs": logs}
    if files:
        found.changed(
            document.line_of("positions"),
            "positions are not taken over: Deckwatch reads files from their beginning. To begin with new lines, "
            "add start_at: end.",
        )
    for key in document:
        if key not in _TOP_LEVEL:
            found.lost(document.line_of(key), key)
    found.notes = list(dict.fromkeys(found.notes))
    return found


def _files(found: Conversion, scrape: LinedMap) -> Iterator[dict[str, Any]]:
    """The entry of `logs.files` for each group of targets."""
    for group in scrape.maps("static_configs"):
        labels = {name: group.map("labels").text(name) for name in group.map("labels")}
        kept = relabeled(found, labels, scrape.maps("relabel_configs"))
        if kept is None:
            continue
        path, exclude = kept.get("__path__", ""), kept.get("__path_exclude__", "")
        if not path:
            found.lost(group.line, "targets without __path__")
            continue
        rule = Rule(found, labels={name: text for name, text in kept.items() if not name.startswith("__")})
        convert_stages(rule, scrape.maps("pipeline_stages"))
        made: dict[str, Any] = {"path": path}
        if exclude:
            made["exclude"] = [exclude]
        if scrape.text("encoding"):
            made["encoding"] = scrape.text("encoding").lower()
        if scrape.map("decompression").get("enabled"):
            found.lost(scrape.line_of("decompression"), "decompression. Compressed files are not read.")
        yield made | rule.settings()
    for key, path, kind in (("kubernetes_sd_configs", _PODS, "cri"), ("docker_sd_configs", _CONTAINERS, "docker")):
        if not scrape.get(key):
            continue
        if scrape.get("relabel_configs"):
            what = "namespace, pod and container" if kind == "cri" else "container, image and compose_service"
            found.lost(
                scrape.line_of("relabel_configs"), f"relabel_configs of {key}. The labels {what} are from the path."
            )
        found.changed(scrape.line_of(key), f"{key} becomes the path {path}, which is for all containers")
        rule = Rule(found, labels={"job": scrape.text("job_name") or kind})
        if kind == "docker":
            rule.is_wrapped, rule.more["format"] = True, "docker"
        convert_stages(rule, scrape.maps("pipeline_stages"))
        if "format" not in rule.more:
            rule.is_wrapped, rule.more["format"] = True, kind
        yield {"path": path} | rule.settings()


def _journal(found: Conversion, scrape: LinedMap) -> dict[str, Any]:
    settings = scrape.map("journal")
    labels = settings.map("labels")
    rule = Rule(found, is_journal=True, labels={name: labels.text(name) for name in labels})
    relabeled_journal(rule, scrape.maps("relabel_configs"))
    convert_stages(rule, scrape.maps("pipeline_stages"))
    made: dict[str, Any] = {}
    for key, name in (("path", "directory"), ("max_age", "max_age")):
        if settings.text(key):
            made[name] = settings.text(key)
    match: dict[str, Any] = {}
    for one in settings.text("matches").split():
        field, has_value, value = one.partition("=")
        if has_value:
            others = match.get(field, [])
            match[field] = [*(others if isinstance(others, list) else [others]), value]
        else:
            found.lost(settings.line_of("matches"), f"{one} in matches")
    if match:
        made["match"] = {field: values[0] if len(values) == 1 else values for field, values in match.items()}
    if settings.get("json"):
        found.lost(settings.line_of("json"), "json. The line is the message; choose other fields as metadata_fields.")
    return made | rule.settings()


def _client(found: Conversion, client: LinedMap) -> dict[str, Any]:
    """One destination. Passwords are not copied."""
    line = client.line_of("url")
    made: dict[str, Any] = {}
    url = client.text("url")
    variable = re.sub(r"\W", "_", client.text("name")).upper() or "LOKI"
    if "${" not in url:
        try:
            parts = urlsplit(url)
        except ValueError:
            raise NotConvertible("url is not a URL", line) from None
        account, _, host = parts.netloc.rpartition("@")
        url = parts._replace(netloc=host).geturl()
        if account:
            made["username"] = account.partition(":")[0]
            made |= _secret(found, line, "password", f"{variable}_PASSWORD")
    named = {"name": client.text("name")} if client.text("name") else {}
    made = {**named, "url": url.removesuffix("/").removesuffix("/loki/api/v1/push"), **made}
    if client.get("external_labels"):
        external = client.map("external_labels")
        made["labels"] = {name: external.text(name) for name in external}
    if client.text("tenant_id"):
        made["tenant"] = client.text("tenant_id")
    basic = client.map("basic_auth")
    if basic.text("username"):
        made["username"] = basic.text("username")
    if basic.text("password_file"):
        made["password_file"] = basic.text("password_file")
    elif basic.text("password"):
        made |= _secret(found, basic.line_of("password"), "password", f"{variable}_PASSWORD")
    authorization = client.map("authorization")
    if client.text("bearer_token_file") or authorization.text("credentials_file"):
        made["bearer_token_file"] = client.text("bearer_token_file") or authorization.text("credentials_file")
    elif client.text("bearer_token") or authorization.text("credentials"):
        made |= _secret(found, client.line_of("bearer_token"), "bearer_token", f"{variable}_TOKEN")
    tls = client.map("tls_config")
    if tls:
        made["tls"] = {name: tls[name] for name in tls if name not in ("min_version", "max_version")}
    headers = client.map("headers")
    if headers:
        names = {name: f"{variable}_HEADER_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}" for name in headers}
        made["headers"] = {name: f"${{{names[name]}}}" for name in headers}
        found.changed(client.line_of("headers"), f"set {', '.join(f'${it}' for it in names.values())}: not copied")
    if client.text("proxy_url"):
        made |= _secret(found, client.line_of("proxy_url"), "proxy_url", f"{variable}_PROXY_URL")
    for key, name in (("batchwait", "batch_wait"), ("batchsize", "batch_bytes"), ("timeout", "timeout")):
        if client.get(key) is not None:
            made[name] = client[key]
    backoff = client.map("backoff_config")
    if backoff.get("max_period") is not None:
        made["max_backoff"] = backoff["max_period"]
    if backoff.get("max_retries") is not None:
        found.lost(backoff.line_of("max_retries"), "max_retries. Pushes are retried until Loki stores them.")
    for key in ("oauth2", "drop_rate_limited_batches", "stream_lag_labels"):
        if client.get(key):
            found.lost(client.line_of(key), key)
    return made


def _secret(found: Conversion, line: int, key: str, variable: str) -> dict[str, str]:
    found.changed(line, f"set ${variable} to the {key} of the client. It is not copied.")
    return {key: f"${{{variable}}}"}
