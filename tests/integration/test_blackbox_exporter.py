"""Comparison with the real blackbox_exporter: the same names, types, labels and values for the same endpoints."""

from __future__ import annotations

import contextlib
import math
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from certificates import Authority
from comparison import as_release, differences, different_values, exposed, missing_series, named
from peers.refresh import table
from probed_site import name_server, site
from services import Program, agent, fetch, free_port, installed, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from comparison import Exposed

#: Durations, and what the peer also exports where it is unknown (a chain that was not verified).
MOVING = (
    "probe_duration_seconds",
    "probe_dns_lookup_time_seconds",
    "probe_http_duration_seconds",
    "probe_timeout",
    "probe_dns_dur",
)
OURS = named("probe_")

PEER = """
modules:
  http: {{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: {ca}}}}}}}
  regex: {{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4, fail_if_body_matches_regexp: [ok]}}}}
  tcp: {{prober: tcp, timeout: 5s, tcp: {{preferred_ip_protocol: ip4}}}}
  tls: {{prober: tcp, timeout: 5s, tcp: {{preferred_ip_protocol: ip4, tls: true, tls_config: {{ca_file: {ca}}}}}}}
  dns: {{prober: dns, timeout: 5s, dns: {{preferred_ip_protocol: ip4, query_name: example.org, query_type: SOA}}}}
"""


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Program, dict[str, str]]]:
    """Both exporters, and the module and URL of the peer for each of our targets."""
    folder = tmp_path_factory.mktemp("probes")
    authority = Authority(folder)
    (folder / "peer.yml").write_text(PEER.format(ca=authority.file))
    with contextlib.ExitStack() as stack:
        plain, secure = stack.enter_context(site()), stack.enter_context(site(authority.serving()))
        names = stack.enter_context(name_server())
        peers = {
            "health": ("http", f"http://127.0.0.1:{plain}/health"),
            "broken": ("http", f"http://127.0.0.1:{plain}/broken"),
            "hop": ("http", f"http://127.0.0.1:{plain}/hop"),
            "loop": ("http", f"http://127.0.0.1:{plain}/loop"),
            "regex": ("regex", f"http://127.0.0.1:{plain}/health"),
            "closed": ("http", f"http://127.0.0.1:{free_port()}/"),
            "secure": ("http", f"https://127.0.0.1:{secure}/health"),
            "port": ("tcp", f"127.0.0.1:{plain}"),
            "tls": ("tls", f"127.0.0.1:{secure}"),
            "names": ("dns", f"127.0.0.1:{names}"),
        }
        tls = f"tls: {{ca_file: {authority.file}}}"
        query = "/example.org?type=SOA"
        ours = "".join(
            f"    - {{name: {name}, url: '{url if '//' in url else f'{kind}://{url}'}"
            f"{query if kind == 'dns' else ''}', ip_protocol: ip4"
            f"{', ' + tls if name in ('secure', 'tls') else ''}"
            f"{', expect: {body_not: ok}' if name == 'regex' else ''}}}\n"
            for name, (kind, url) in peers.items()
        )
        port = free_port()
        command = [installed("prometheus-blackbox-exporter"), f"--config.file={folder / 'peer.yml'}"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        peer = stack.enter_context(running(command, f"http://127.0.0.1:{port}", "/-/healthy", folder / "peer.log"))
        watching = stack.enter_context(agent(folder, f"interval: 1s\nexporters:\n  http_probe:\n{ours}"))
        urls = {name: f"/probe?module={kind}&target={quote(url, safe='')}" for name, (kind, url) in peers.items()}
        yield peer, watching, urls


@pytest.mark.parametrize(
    "name", ["health", "broken", "hop", "loop", "regex", "closed", "secure", "port", "tls", "names"]
)
def test_a_probe_has_the_series_and_values_of_the_peer(
    side_by_side: tuple[Program, Program, dict[str, str]], name: str
) -> None:
    peer, ours, urls = side_by_side

    def scraped() -> Exposed:
        found = exposed(fetch(f"{ours.url}/metrics?target={name}")[1])
        return found if "probe_success" in found else {}

    mine = until(scraped, what="a first probe")
    theirs = exposed(fetch(peer.url + urls[name])[1])
    assert not math.isnan(next(iter(theirs["probe_success"][1].values())))

    mine = as_release(mine, theirs, table("blackbox_exporter"))  # labels that its release does not have yet
    assert differences(theirs, mine, OURS) == []
    assert missing_series(theirs, mine, OURS) == []
    compared, different = different_values(theirs, theirs, mine, named("probe_", MOVING), {})
    assert different == {}
    assert compared >= 4


def test_a_failing_probe_is_a_result_with_its_reason_and_blocks_no_other_collector(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://user:s3cret@127.0.0.1:{silent.getsockname()[1]}/"
        config = f"interval: 1s\nexporters:\n  system: {{}}\n  http_probe: [{{name: api, url: '{url}', timeout: 2s}}]\n"
        with agent(tmp_path, config) as watching:
            until(lambda: "probe_success{" in watching.metrics(), what="the end of the probe")
            metrics = exposed(watching.metrics())
            page = fetch(watching.url + "/")[1]
            health = fetch(watching.url + "/health/detailed")[1]

    target = (("target", "api"),)
    assert metrics["probe_success"][1]["probe_success", target] == 0
    succeeded = {
        dict(labels)["collector"]: value for (_, labels), value in metrics["deckwatch_collector_success"][1].items()
    }
    assert set(succeeded.values()) == {1}
    assert "http_probe" in succeeded
    reason = "timed out after 2 s while waiting for the response"
    assert reason in page
    assert reason in health
    assert f'http_probe \\"api\\" failed: {reason}' in watching.printed
    assert "s3cret" not in page + health + watching.printed
