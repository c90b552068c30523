"""The web configuration file works as for the Go exporters, or reports clearly what is not supported."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import bcrypt
import httpx
import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certificates import Authority
from deckwatch.config import ConfigError
from deckwatch.http import password_checks
from deckwatch.http.guard import guarded
from deckwatch.http.rate_limit import TokenBucket
from deckwatch.http.rejections import Rejections
from deckwatch.http.web_config import WebConfigFile

from .serving import FakeWatch, Server, rewrite, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: The hash of "secret" in htpasswd's form ($2y$), at the lowest cost.
SECRET = "$2y$" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()[4:]
TLS = "cert_file: web.crt, key_file: web.key"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("web")
    return authority


@pytest.fixture
def web(tmp_path: Path) -> Callable[[str], WebConfigFile]:
    def write(text: str) -> WebConfigFile:
        (tmp_path / "web.yml").write_text(text)
        return WebConfigFile(tmp_path / "web.yml", check_every=0.0)

    return write


def wrong(path: Path, text: str) -> list[str]:
    """Return the errors of an invalid file, without the folder name."""
    (path / "web.yml").write_text(text)
    with pytest.raises(ConfigError) as error:
        WebConfigFile(path / "web.yml")
    return str(error.value).replace(f"{path}/", "").splitlines()


def get(server: Server, **options: Any) -> httpx.Response:
    path = options.pop("path", "/metrics")
    auth = options.pop("auth", None)
    with server.client(**options) as client:
        return client.get(path, auth=auth)


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# Users


def test_users_need_their_password(web: Callable[[str], WebConfigFile]) -> None:
    with serving(FakeWatch(), web(f"basic_auth_users: {{alice: '{SECRET}'}}")) as server:
        for path in ("/metrics", "/", "/health"):
            refused = get(server, path=path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic ")
            assert refused.headers["x-content-type-options"] == "nosniff"
            assert refused.text == "unauthorized\n"
        for auth in (("alice", "wrong"), ("bob", "secret"), ("alice", ""), ("", ""), ("alice", "secret" + "x" * 100)):
            for _ in range(2):  # the second time from the cache
                assert get(server, auth=auth).status_code == 401
        for _ in range(2):
            assert get(server, auth=("alice", "secret")).status_code == 200


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !!!", "Basic YWxpY2U=", "Bearer x", "Basic /////w==", "Basic YWxpY2U6AA==", "basic"]
)
def test_a_malformed_authorization_is_rejected(web: Callable[[str], WebConfigFile], header: str) -> None:
    with serving(FakeWatch(), web(f"basic_auth_users: {{alice: '{SECRET}'}}")) as server, server.client() as client:
        assert client.get("/metrics", headers={"authorization": header}).status_code == 401


def test_a_password_of_72_bytes_works_and_one_byte_more_does_not(web: Callable[[str], WebConfigFile]) -> None:
    password = "ä" * 36
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    with serving(FakeWatch(), web(f"basic_auth_users: {{alice: '{hashed}'}}")) as server:
        assert get(server, auth=("alice", password)).status_code == 200
        assert get(server, auth=("alice", password + "x")).status_code == 401


def test_the_password_cache_is_bounded_and_keeps_the_right_password(
    web: Callable[[str], WebConfigFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bytes] = []

    def cheap(password: bytes, _hashed: bytes) -> bool:
        calls.append(password)
        return password == b"secret"

    monkeypatch.setattr(bcrypt, "checkpw", cheap)
    file = web(f"basic_auth_users: {{alice: '{SECRET}'}}")
    with serving(FakeWatch(), file) as server, server.client() as client:
        assert client.get("/metrics", auth=("alice", "secret")).status_code == 200
        for number in range(300):
            assert client.get("/metrics", auth=("alice", str(number))).status_code == 401
        assert client.get("/metrics", auth=("alice", "secret")).status_code == 200
    assert calls.count(b"secret") == 1
    checks = file._checks
    assert (len(checks._right), len(checks._wrong)) == (1, password_checks._CACHED)
    assert not any(b"secret" in key for key in (*checks._right, *checks._wrong))


@pytest.mark.parametrize(
    "value", ["hunter2", "'12345'", "12345", "", "[hunter2]", "$2y$10$short", "$2y$99$" + "a" * 53]
)
def test_a_password_in_place_of_a_hash_is_an_error_that_does_not_show_it(tmp_path: Path, value: str) -> None:
    (message,) = wrong(tmp_path, f"basic_auth_users:\n  alice: {value}\n")
    assert message.startswith("web.yml:2: basic_auth_users.alice: found a value (not shown); expected a bcrypt hash")
    assert "hunter2" not in message
    assert "12345" not in message


def test_a_password_in_place_of_the_users_is_not_shown(tmp_path: Path) -> None:
    assert "hunter2" not in "\n".join(wrong(tmp_path, "basic_auth_users: hunter2\n"))


# TLS


def test_certificate_files_are_relative_to_the_web_config(
    authority: Authority, web: Callable[[str], WebConfigFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    file = web(f"tls_server_config: {{{TLS}}}")
    assert file.uses_tls
    with serving(FakeWatch(), file) as server:
        assert get(server, verify=authority.trusting()).status_code == 200
        groups = get(server, path="/sd", verify=authority.trusting()).json()
        assert {group["labels"]["__scheme__"] for group in groups} == {"https"}


def test_certificate_and_key_can_be_inline(
    authority: Authority, tmp_path: Path, web: Callable[[str], WebConfigFile]
) -> None:
    inline = "".join(
        f"  {key}: |\n" + "".join(f"    {line}\n" for line in (tmp_path / name).read_text().splitlines())
        for key, name in (("cert", "web.crt"), ("key", "web.key"), ("client_ca", "ca.pem"))
    )
    file = web(f"tls_server_config:\n{inline}  client_auth_type: VerifyClientCertIfGiven\n")
    with serving(FakeWatch(), file) as server:
        assert get(server, verify=authority.trusting()).status_code == 200


def test_client_certificates_are_required_and_verified(
    authority: Authority, tmp_path: Path, web: Callable[[str], WebConfigFile]
) -> None:
    (tmp_path / "other").mkdir()
    ours, theirs = authority.issue("client"), Authority(tmp_path / "other").issue("client")
    kind = "client_auth_type: RequireAndVerifyClientCert"
    with serving(FakeWatch(), web(f"tls_server_config: {{{TLS}, client_ca_file: ca.pem, {kind}}}")) as server:
        assert get(server, verify=authority.trusting(*ours)).status_code == 200
        for context in (authority.trusting(), authority.trusting(*theirs)):
            with pytest.raises(httpx.TransportError):
                get(server, verify=context)


def test_an_optional_client_certificate_is_verified_when_given(
    authority: Authority, tmp_path: Path, web: Callable[[str], WebConfigFile]
) -> None:
    (tmp_path / "other").mkdir()
    ours, theirs = authority.issue("client"), Authority(tmp_path / "other").issue("client")
    kind = "client_auth_type: VerifyClientCertIfGiven"
    with serving(FakeWatch(), web(f"tls_server_config: {{{TLS}, client_ca_file: ca.pem, {kind}}}")) as server:
        assert get(server, verify=authority.trusting()).status_code == 200
        assert get(server, verify=authority.trusting(*ours)).status_code == 200
        with pytest.raises(httpx.TransportError):
            get(server, verify=authority.trusting(*theirs))


@pytest.mark.parametrize(
    "name",
    [
        x509.DNSName("prometheus.example"),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.IPAddress(ipaddress.ip_address("192.0.2.7")),
        x509.RFC822Name("ops@example.org"),
        x509.UniformResourceIdentifier("spiffe://example/prometheus"),
    ],
)
def test_only_clients_with_an_allowed_name_are_admitted(
    authority: Authority, web: Callable[[str], WebConfigFile], name: x509.GeneralName
) -> None:
    allowed, other = authority.issue("allowed", name), authority.issue("other", x509.DNSName("other.example"))
    rules = (
        f"client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: ['{name.value}']"
    )
    watch = FakeWatch()
    with serving(watch, web(f"tls_server_config: {{{TLS}, {rules}}}")) as server:
        with pytest.raises(httpx.TransportError):
            get(server, verify=authority.trusting(*other))
        assert watch.asked == []
        assert get(server, verify=authority.trusting(*allowed)).status_code == 200


def handshake(server: Server, authority: Authority, prepare: Callable[[ssl.SSLContext], None]) -> tuple[str, str]:
    """Return the protocol and cipher suite that a client with this context negotiates."""
    context = authority.trusting()
    prepare(context)
    with context.wrap_socket(server.connect(), server_hostname="127.0.0.1") as client:
        cipher = client.cipher()
        assert cipher is not None
        return client.version() or "", cipher[0]


def at_most(version: ssl.TLSVersion) -> Callable[[ssl.SSLContext], None]:
    def prepare(context: ssl.SSLContext) -> None:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version

    return prepare


@pytest.mark.filterwarnings("ignore:.*TLSVersion:DeprecationWarning")
def test_only_allowed_tls_versions_are_accepted(authority: Authority, web: Callable[[str], WebConfigFile]) -> None:
    with serving(FakeWatch(), web(f"tls_server_config: {{{TLS}}}")) as server:
        assert handshake(server, authority, at_most(ssl.TLSVersion.TLSv1_2))[0] == "TLSv1.2"
        with pytest.raises(OSError, match=r"(?i)version|reset|eof"):
            handshake(server, authority, at_most(ssl.TLSVersion.TLSv1_1))
    newest = web(f"tls_server_config: {{{TLS}, min_version: TLS13}}")
    with serving(FakeWatch(), newest) as server, pytest.raises(OSError, match=r"(?i)version|reset|eof"):
        handshake(server, authority, at_most(ssl.TLSVersion.TLSv1_2))
    with serving(FakeWatch(), web(f"tls_server_config: {{{TLS}, min_version: TLS10, max_version: TLS11}}")) as server:
        assert handshake(server, authority, at_most(ssl.TLSVersion.TLSv1_3))[0] == "TLSv1.1"


def test_only_allowed_cipher_suites_are_accepted(authority: Authority, web: Callable[[str], WebConfigFile]) -> None:
    suites = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"
    older = at_most(ssl.TLSVersion.TLSv1_2)

    def preferring_128(context: ssl.SSLContext) -> None:
        older(context)
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")

    with serving(FakeWatch(), web(f"tls_server_config: {{{TLS}, {suites}}}")) as server:
        assert handshake(server, authority, preferring_128)[1] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    clients = web(f"tls_server_config: {{{TLS}, {suites}, prefer_server_cipher_suites: false}}")
    with serving(FakeWatch(), clients) as server:
        assert handshake(server, authority, preferring_128)[1] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    only_13 = web(f"tls_server_config: {{{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}")
    with serving(FakeWatch(), only_13) as server, pytest.raises(OSError, match=r"(?i)version|reset|eof|handshake"):
        handshake(server, authority, older)


@pytest.mark.parametrize("curve", ["CurveP256", "CurveP384", "CurveP521", "X25519"])
def test_a_curve_preference_is_applied(authority: Authority, web: Callable[[str], WebConfigFile], curve: str) -> None:
    names = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
    with serving(FakeWatch(), web(f"tls_server_config: {{{TLS}, curve_preferences: [{curve}]}}")) as server:
        handshake(server, authority, lambda context: context.set_ecdh_curve(names[curve]))
        other = names["CurveP384" if curve == "CurveP256" else "CurveP256"]
        with pytest.raises(OSError, match=r"(?i)handshake|reset|eof|curve"):
            handshake(server, authority, lambda context: context.set_ecdh_curve(other))


def test_plain_http_on_a_tls_port_gets_a_message(authority: Authority, web: Callable[[str], WebConfigFile]) -> None:
    with serving(FakeWatch(), web(f"tls_server_config: {{{TLS}}}")) as server:
        for method in ("GET", "POST", "OPTIONS", "PROPFIND"):
            with httpx.Client(trust_env=False) as client:
                answer = client.request(method, f"http://127.0.0.1:{server.port}/metrics")
            assert answer.status_code == 400
            assert answer.text.startswith("This port requires HTTPS. ")
        assert get(server, verify=authority.trusting()).status_code == 200


def test_versions_alone_do_not_enable_tls(web: Callable[[str], WebConfigFile]) -> None:
    assert not web("tls_server_config: {min_version: TLS13}").uses_tls
    assert not web("").uses_tls


# Headers, HTTP/2 and the rate limit


def test_headers_are_added_and_replace_the_default_ones(web: Callable[[str], WebConfigFile]) -> None:
    text = """http_server_config:
  http2: false
  headers:
    X-Frame-Options: sameorigin
    Strict-Transport-Security: max-age=31536000
    X-XSS-Protection: ""
"""
    with serving(FakeWatch(), web(text)) as server:
        for path in ("/metrics", "/", "/nothing"):
            answer = get(server, path=path)
            assert answer.headers.get_list("x-frame-options") == ["sameorigin"]
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "x-xss-protection" not in answer.headers


def test_requests_above_the_rate_limit_get_429(web: Callable[[str], WebConfigFile]) -> None:
    with serving(FakeWatch(), web("rate_limit: {interval: 1h, burst: 3}")) as server, server.client() as client:
        answers = [client.get("/metrics") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].text == "too many requests\n"


def test_an_interval_of_0_disables_the_rate_limit(web: Callable[[str], WebConfigFile]) -> None:
    with serving(FakeWatch(), web("rate_limit: {interval: 0, burst: 0}")) as server, server.client() as client:
        assert {client.get("/metrics").status_code for _ in range(10)} == {200}


def test_a_token_bucket_fills_with_time_up_to_its_burst() -> None:
    now = [0.0]
    bucket = TokenBucket(2.0, 3, lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 2.0
    assert [bucket.take() for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


# Changes


def test_a_changed_file_applies_to_the_next_request(web: Callable[[str], WebConfigFile], tmp_path: Path) -> None:
    with serving(FakeWatch(), web("")) as server, server.client() as client:
        assert client.get("/metrics").status_code == 200
        rewrite(tmp_path / "web.yml", f"basic_auth_users: {{alice: '{SECRET}'}}")
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", auth=("alice", "secret")).status_code == 200
        other = "$2b$" + bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()[4:]
        rewrite(tmp_path / "web.yml", f"basic_auth_users: {{alice: '{other}'}}")
        assert client.get("/metrics", auth=("alice", "secret")).status_code == 401
        assert client.get("/metrics", auth=("alice", "other")).status_code == 200


def test_an_invalid_change_is_ignored_and_logged_once(
    web: Callable[[str], WebConfigFile], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = web(f"basic_auth_users: {{alice: '{SECRET}'}}")
    with caplog.at_level(logging.INFO, "deckwatch.http"), serving(FakeWatch(), file) as server:
        for text in ("nonsense: 1\n", None):
            caplog.clear()
            if text is None:
                (tmp_path / "web.yml").unlink()
            else:
                rewrite(tmp_path / "web.yml", text)
            for _ in range(3):
                assert get(server).status_code == 401
                assert get(server, auth=("alice", "secret")).status_code == 200
            (record,) = caplog.records
            assert record.levelno == logging.ERROR
            assert "the old one stays active" in record.getMessage()
        caplog.clear()
        rewrite(tmp_path / "web.yml", f"basic_auth_users: {{bob: '{SECRET}'}}")
        assert get(server, auth=("bob", "secret")).status_code == 200
        assert [record.getMessage() for record in caplog.records] == ["web config reloaded"]


def serial(server: Server) -> str:
    """Return the certificate that a new connection receives."""
    return ssl.get_server_certificate(("127.0.0.1", server.port))


def test_a_renewed_certificate_is_used_even_if_its_key_is_replaced_later(
    authority: Authority, web: Callable[[str], WebConfigFile], tmp_path: Path
) -> None:
    with serving(FakeWatch(), web(f"tls_server_config: {{{TLS}}}")) as server:
        old = serial(server)
        new_certificate, new_key = authority.issue("renewed")
        new_certificate.replace(tmp_path / "web.crt")
        assert serial(server) == old  # the new certificate does not match the old key
        new_key.replace(tmp_path / "web.key")
        assert serial(server) == (tmp_path / "web.crt").read_text() != old
        assert get(server, verify=authority.trusting()).status_code == 200


def test_tls_can_be_enabled_at_run_time(
    authority: Authority, web: Callable[[str], WebConfigFile], tmp_path: Path
) -> None:
    with serving(FakeWatch(), web("")) as server:
        assert get(server).status_code == 200
        rewrite(tmp_path / "web.yml", f"tls_server_config: {{{TLS}}}")
        server.url = server.url.replace("http:", "https:")
        assert get(server, verify=authority.trusting()).status_code == 200


def test_a_hung_disk_delays_only_one_request(
    web: Callable[[str], WebConfigFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = web("")
    release = threading.Event()
    looks = []

    def hang(*_: object) -> None:
        looks.append(1)
        assert release.wait(120)

    monkeypatch.setattr("deckwatch.http.web_config._changed_files", hang)
    try:
        with serving(FakeWatch(), file) as server, server.client() as client:
            client.get("/metrics")
            monkeypatch.setattr(
                "deckwatch.http.web_config._CHECK_TIMEOUT", 3600
            )  # a request that waits now gets no response
            assert {client.get("/metrics").status_code for _ in range(20)} == {200}
            assert len(looks) == 1
    finally:
        release.set()


# Errors

KEYS = (
    *("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit", "headers", "key", "cert_file"),
    *("key_file", "cert", "interval", "burst", "cipher_suites", "client_auth_type"),
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls_servr_config: {}", "web.yml:1: tls_servr_config: unknown key (did you mean 'tls_server_config'?)"),
        (f"tls_server_config:\n  {{{TLS}, min_versio: TLS12}}", "web.yml:2: tls_server_config.min_versio: unknown key"),
        ("tls_server_config: {cert_file: web.crt}", "web.yml:1: tls_server_config: found a mapping; expected a cert"),
        (f"tls_server_config: {{{TLS}, cert: x}}", "expected a certificate and a key, each either inline"),
        ("tls_server_config: {cert_file: no.crt, key_file: web.key}", "cert_file: cannot read 'no.crt': No such"),
        ("tls_server_config: {cert_file: web.crt, key_file: .}", "key_file: cannot read '.': Is a directory"),
        ("tls_server_config: {cert_file: web.key, key_file: web.key}", "cert_file: 'web.key' contains no PEM CERTIF"),
        ("tls_server_config: {cert_file: web.crt, key_file: ca.pem}", "key_file: 'ca.pem' contains no PEM PRIVATE KEY"),
        (
            "tls_server_config: {cert_file: ca.pem, key_file: web.key}",
            "tls_server_config: cannot set up TLS: key values mismatch",
        ),
        ("tls_server_config: {cert_file: web.crt, key_file: locked.key}", "cannot set up TLS: "),
        (f"tls_server_config: {{{TLS}, client_ca_file: ca.pem}}", "client_ca_file together with client_auth_type"),
        (f"tls_server_config: {{{TLS}, client_auth_type: RequireAndVerifyClientCert}}", "client_ca_file together with"),
        (f"tls_server_config: {{{TLS}, client_auth_type: RequireAnyClientCert}}", "Python's TLS does not support"),
        (f"tls_server_config: {{{TLS}, client_auth_type: RequestClientCert}}", "Python's TLS does not support"),
        (f"tls_server_config: {{{TLS}, client_auth_type: Maybe}}", "'Maybe'; expected one of NoClientCert, VerifyCl"),
        (f"tls_server_config: {{{TLS}, client_allowed_sans: [a]}}", "client_allowed_sans together with client_auth"),
        (f"tls_server_config: {{{TLS}, min_version: TLS13, max_version: TLS12}}", "a min_version that is not above"),
        (f"tls_server_config: {{{TLS}, min_version: SSL30}}", "min_version: found 'SSL30'; expected one of 'TLS10'"),
        (f"tls_server_config: {{{TLS}, cipher_suites: [FOO]}}", "cipher_suites[0]: found 'FOO'; expected one of TLS_"),
        (f"tls_server_config: {{{TLS}, curve_preferences: [X25519, CurveP256]}}", "at most one curve"),
        ("http_server_config: {headers: {Server: x}}", "web.yml:1: http_server_config.headers.Server: "),
        ("http_server_config: {headers: {X-Frame-Options: maybe}}", "X-Frame-Options to be deny or sameorigin"),
        ('http_server_config: {headers: {Content-Security-Policy: "a\\r\\nb: c"}}', "Content-Security-Policy: "),
        ("rate_limit: {interval: soon}", "web.yml:1: rate_limit.interval: found 'soon'; expected a duration"),
        ("rate_limit: {burst: -1}", "web.yml:1: rate_limit.burst: found -1; expected a number not below 0"),
        ("- a list", "web.yml:1: expected keys such as tls_server_config"),
        ("a: [", "is not valid YAML: "),
    ],
)
def test_errors_contain_the_location_and_the_valid_values(
    authority: Authority, tmp_path: Path, text: str, message: str
) -> None:
    authority.issue("locked", password=b"secret")
    messages = wrong(tmp_path, text + "\n")
    assert any(message in line for line in messages), messages
    assert all(line.startswith("web.yml:") for line in messages)


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    text = "rate_limit: {burst: x}\nbasic_auth_users: {alice: x}\nnope: 1\nhttp_server_config: {http2: maybe}\n"
    assert [line.split(": ")[1] for line in wrong(tmp_path, text)] == [
        "rate_limit.burst",
        "basic_auth_users.alice",
        "nope",
        "http_server_config.http2",
    ]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web\.yml: no such file"):
        WebConfigFile(tmp_path / "web.yml")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    text=st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(KEYS),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ).map(repr),
    )
)
def test_any_text_is_a_config_or_a_config_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "any.yml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigError):
        WebConfigFile(tmp_path / "any.yml")


def test_bcrypt_is_loaded_only_if_users_are_configured() -> None:
    code = "import sys, deckwatch.http.web_config as w; w.WebConfigFile(None); print('bcrypt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_without_a_file_the_application_is_not_wrapped() -> None:
    async def application(_scope: Any, _receive: Any, _send: Any) -> None: ...

    assert guarded(application, WebConfigFile(None), Rejections()) is application
    assert WebConfigFile(None).tls_context() is None
    assert WebConfigFile(None).admits(None, None)
