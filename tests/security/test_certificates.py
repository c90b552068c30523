"""Certificates: their expiry is exported, and no kind of file stops reloading."""

from __future__ import annotations

import datetime
import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from agent.serving import FakeWatch, serving
from certificates import Authority
from deckwatch.config import ConfigError
from deckwatch.http import web_config
from deckwatch.http.app import create_app
from deckwatch.http.certificate import earliest_expiry
from deckwatch.http.web_config import WebConfigFile
from deckwatch.http.web_metrics import CERTIFICATE_EXPIRY, WebConfigCollector

if TYPE_CHECKING:
    from pathlib import Path

TLS = "tls_server_config: {cert_file: web.crt, key_file: web.key}\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "web.yml").write_text(TLS)
    return Authority(tmp_path)


def expiry_of(file: WebConfigFile) -> list[float]:
    return [
        float(sample.value)
        for sample in WebConfigCollector(file).collect()
        if sample.series.metric.name == CERTIFICATE_EXPIRY.name
    ]


def test_an_expired_certificate_is_exported_logged_and_listed_as_a_problem(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, _ = authority.issue("web", days=-2)
    expected = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    file = WebConfigFile(tmp_path / "web.yml", check_every=0.0)
    assert expiry_of(file) == [expected.timestamp()]
    with (
        caplog.at_level(logging.WARNING, "deckwatch.http"),
        serving(create_app(FakeWatch(), problems=file.problems), file) as server,
    ):
        untrusting = ssl.create_default_context()
        untrusting.check_hostname, untrusting.verify_mode = False, ssl.CERT_NONE
        for _ in range(3):
            with server.client(verify=untrusting) as client:
                problems = client.get("/api/v1/status").json()["problems"]
        assert [f"{expected:%Y-%m-%d %H:%M:%S} UTC" in problem for problem in problems] == [True]
        assert [f"the TLS certificate expired at {expected:%Y-%m-%d}" in text for text in caplog.messages] == [True]
        authority.issue("web", days=2)
        with server.client(verify=authority.trusting()) as client:
            assert client.get("/api/v1/status").json()["problems"] == []


def test_check_fails_for_an_expired_certificate(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "deckwatch.yml").write_text("web_config: web.yml\nexporters: {}\n")
    command = [sys.executable, "-m", "deckwatch", "check", "--config", str(tmp_path / "deckwatch.yml")]
    for days, state in ((2, "ok"), (-2, "failed")):
        authority.issue("web", days=days)
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == (0 if state == "ok" else 2), ended.stdout + ended.stderr
        assert ("certificate expired" in ended.stdout) == (state == "failed")


def test_the_expiry_of_a_chain_is_that_of_the_first_certificate_to_expire(authority: Authority, tmp_path: Path) -> None:
    leaf, _ = authority.issue("web", days=9)
    issuer = x509.load_pem_x509_certificate(authority.file.read_bytes()).not_valid_after_utc
    leaf.write_bytes(leaf.read_bytes() + authority.file.read_bytes())
    assert expiry_of(WebConfigFile(tmp_path / "web.yml")) == [issuer.timestamp()]


def test_without_tls_there_is_no_expiry(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("")
    assert expiry_of(WebConfigFile(tmp_path / "web.yml")) == []


@pytest.mark.parametrize("days", [-9, 1, 20_000, 100_000])
def test_an_expiry_in_any_century_is_parsed(authority: Authority, days: int) -> None:
    certificate = authority.issue("web", days=days)[0].read_bytes()
    expected = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    assert earliest_expiry(certificate) == expected.timestamp()
    assert expected > datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)


@given(st.binary())
def test_a_file_that_is_not_a_certificate_has_no_expiry(data: bytes) -> None:
    assert earliest_expiry(data) is None
    assert earliest_expiry(ssl.DER_cert_to_PEM_cert(data).encode()) is None


@pytest.mark.parametrize("name", ["web.crt", "web.yml"])
def test_a_pipe_instead_of_a_file_is_an_error_and_reloading_continues(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    authority.issue("web")
    file = WebConfigFile(tmp_path / "web.yml", check_every=0.0)

    def scrape() -> None:
        with server.client(verify=authority.trusting()) as client:
            assert client.get("/metrics").status_code == 200

    with caplog.at_level(logging.ERROR, "deckwatch.http"), serving(FakeWatch(), file) as server:
        content = (tmp_path / name).read_bytes()
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "pipe").rename(tmp_path / name)  # a missing file would be a second error
        scrape()
        assert "not a regular file" in file.wrong
        assert len(caplog.records) == 1
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").rename(tmp_path / name)
        scrape()
        assert file.wrong == ""
        old = ssl.get_server_certificate(("127.0.0.1", server.port))
        authority.issue("web")
        assert ssl.get_server_certificate(("127.0.0.1", server.port)) != old


def test_a_pipe_is_rejected_at_startup(authority: Authority, tmp_path: Path) -> None:
    authority.issue("web")
    (tmp_path / "web.key").unlink()
    os.mkfifo(tmp_path / "web.key")
    with pytest.raises(ConfigError, match=r"key_file: cannot read 'web\.key': not a regular file"):
        WebConfigFile(tmp_path / "web.yml")


def test_a_hanging_file_system_is_reported_and_reloading_continues_afterwards(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.issue("web")
    file = WebConfigFile(tmp_path / "web.yml", check_every=0.0)
    release = threading.Event()
    real = web_config._changed_files

    def hang(*arguments: Any) -> Any:
        assert release.wait(60)
        return real(*arguments)

    monkeypatch.setattr(web_config, "_changed_files", hang)
    monkeypatch.setattr(web_config, "_STUCK_AFTER", 0.0)
    with caplog.at_level(logging.ERROR, "deckwatch.http"), serving(FakeWatch(), file) as server:
        try:
            for _ in range(3):
                with server.client(verify=authority.trusting()) as client:
                    assert client.get("/metrics").status_code == 200
            assert ["cannot be read" in problem for problem in file.problems()] == [True]
            assert not file.is_up_to_date
            assert len(caplog.records) == 1
        finally:
            release.set()
        monkeypatch.setattr(web_config, "_STUCK_AFTER", 60.0)
        authority.issue("web")
        renewed = (tmp_path / "web.crt").read_text()
        for _ in range(300):
            if ssl.get_server_certificate(("127.0.0.1", server.port)) == renewed:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the renewed certificate is not shown")
        assert file.problems() == ()
