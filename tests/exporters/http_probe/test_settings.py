"""Every setting of a probe has an effect: it changes whether the probe succeeds, or what the server gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from certificates import Authority
from deckwatch_exporters.http_probe.settings import ProbeSettings
from exporters.setting_names import setting_names, shown_by_test
from probed_site import name_server, probe, site, tcp_server

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

#: A path of the site or a URL, and settings with which the probe has another result than with `given` ones, or the
#: name of a test that shows the effect.
EFFECTS: dict[str, tuple[str, dict[str, Any]] | tuple[str, dict[str, Any], dict[str, Any]] | str] = {
    "url": ("broken", {"url": "{site}/health"}),
    "method": ("echo", {"method": "DELETE"}),
    "headers": "http_probe/test_http_probe.py::test_the_request_is_sent_as_configured",
    "body": "http_probe/test_http_probe.py::test_the_request_is_sent_as_configured",
    "username": "http_probe/test_http_probe.py::test_the_request_is_sent_as_configured",
    "password": "http_probe/test_http_probe.py::test_the_request_is_sent_as_configured",
    "bearer_token": ("echo", {"bearer_token": "x", "expect": {"body": "Bearer x"}}, {"expect": {"body": "Bearer x"}}),
    "tls.ca_file": ("{tls}/health", {"tls": {"ca_file": "{ca}", "server_name": "api.example"}}),
    "tls.cert_file": "http_probe/test_protocols.py::test_a_server_that_verifies_clients_is_probed_with_a_certificate",
    "tls.key_file": "http_probe/test_protocols.py::test_a_server_that_verifies_clients_is_probed_with_a_certificate",
    "tls.server_name": (
        "{tls}/health", {"tls": {"ca_file": "{ca}", "server_name": "api.example"}}, {"tls": {"ca_file": "{ca}"}},
    ),
    "tls.verify": ("{tls}/health", {"tls": {"verify": False}}),
    "ip_protocol": ("health", {"ip_protocol": "ip6"}),
    "timeout": ("drip", {"timeout": "200ms"}, {"timeout": "2s", "body_size_limit": 10}),
    "follow_redirects": ("hop", {"follow_redirects": False}),
    "body_size_limit": ("health", {"body_size_limit": 5}),
    "expect.status": ("broken", {"expect": {"status": 503}}),
    "expect.body": ("health", {"expect": {"body": "nothing like it"}}),
    "expect.body_not": ("health", {"expect": {"body_not": "ok"}}),
    "expect.json_expression": ("health", {"expect": {"json_expression": "status == 'down'"}}),
    "expect.headers": ("health", {"expect": {"headers": {"Last-Modified": "1999"}}}),
    "expect.tls": ("health", {"expect": {"tls": True}}),
    "expect.rcode": ("{dns}/missing.org", {"expect": {"rcode": "NXDOMAIN"}}),
    "expect.answer": ("{dns}/example.org", {"expect": {"answer": "^192"}}),
    "steps.send": ("{tcp}", {"steps": [{"send": "hello"}, {"expect": "^hello"}]}, {"steps": [{"expect": "^hello"}]}),
    "steps.expect": ("{tcp}", {"steps": [{"send": "hello"}, {"expect": "^no"}]}, {"steps": [{"send": "hello"}]}),
    "steps.starttls": ("{tcp}", {"steps": [{"send": "hello"}, {"starttls": True}]}, {"steps": [{"send": "hello"}]}),
}  # fmt: skip


def _echo(connection: socket.socket) -> None:
    connection.sendall(connection.recv(4096) or b"")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses of servers and files by the name in EFFECTS."""
    folder: Path = tmp_path_factory.mktemp("ca")
    authority = Authority(folder)
    with (
        site() as plain,
        site(authority.serving(x509.DNSName("api.example"))) as tls,
        name_server() as dns,
        tcp_server(_echo) as tcp,
    ):
        yield {
            "site": f"http://127.0.0.1:{plain}",
            "tls": f"https://127.0.0.1:{tls}",
            "dns": f"dns://127.0.0.1:{dns}",
            "tcp": f"tcp://127.0.0.1:{tcp}",
            "ca": str(authority.file),
        }


def _filled(value: Any, places: dict[str, str]) -> Any:
    """Return the value with the names of places replaced."""
    if isinstance(value, dict):
        return {name: _filled(it, places) for name, it in value.items()}
    for name, place in places.items():
        value = value.replace(f"{{{name}}}", place) if isinstance(value, str) else value
    return value


def test_every_setting_has_a_change_that_shows_its_effect() -> None:
    assert setting_names(ProbeSettings) == EFFECTS.keys()


@pytest.mark.parametrize("setting", EFFECTS)
def test_each_setting_has_an_effect(places: dict[str, str], setting: str) -> None:
    effect = EFFECTS[setting]
    if isinstance(effect, str):
        assert shown_by_test(effect)
        return
    path, changed, *rest = effect
    path = _filled(path, places)
    url = path if "://" in path else f"{places['site']}/{path}"

    before = probe(**{"url": url, **_filled(rest[0] if rest else {}, places)})
    after = probe(**{"url": url, **_filled(changed, places)})

    assert before.failed != after.failed
