"""Servers with a private CA: all clients trust the same ones on every Python version."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import ssl
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from certificates import Authority
from databases import postgres_server, tls_redis_server
from deckwatch.config.log_settings import LogsSettings
from deckwatch.logs.checks import check_logs
from deckwatch.pack.json_api import ApiError, JsonApi
from deckwatch_exporters.clients.libpq import NotConnected, Session
from exporters.redis.support import Target
from loki import loki

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Connects to a host, trusting the authorities in a file. Returns the error or an empty string.
    Connect = Callable[[str, Path], str]


class Client(NamedTuple):
    """A client of Deckwatch: its server with a certificate and key, and the settings that its errors mention."""

    serve: Callable[[Path, Path], contextlib.AbstractContextManager[Connect]]
    authority: str
    name: str


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextlib.contextmanager
def _loki(certificate: Path, key: Path) -> Iterator[Connect]:
    with loki(tls=_context(certificate, key)) as double:

        def connect(host: str, ca: Path) -> str:
            url = double.url.replace("127.0.0.1", host)
            settings = LogsSettings.model_validate({"loki": {"url": url, "tls": {"ca_file": str(ca)}}})
            _, finding = next(iter(check_logs(settings, ca.parent)))
            return "" if finding.state == "ok" else finding.what

        yield connect


@contextlib.contextmanager
def _redis(certificate: Path, key: Path) -> Iterator[Connect]:
    with tls_redis_server(certificate.parent, certificate, key, "--tls-auth-clients", "no") as server:

        def connect(host: str, ca: Path) -> str:
            with Target(f"rediss://{host}:{server.port}", tls={"ca_file": str(ca)}) as target:
                return target.run().error

        yield connect


@contextlib.contextmanager
def _postgres(certificate: Path, key: Path) -> Iterator[Connect]:
    if os.getuid() == 0:
        shutil.chown(key, "postgres")
    with postgres_server(ssl="on", ssl_cert_file=str(certificate), ssl_key_file=str(key)) as server:

        def connect(host: str, ca: Path) -> str:
            dsn = f"postgresql://postgres@{host}:{server.port}/postgres?sslmode=verify-full&sslrootcert={ca}"
            session = Session(dsn, 30.0)
            try:
                session.connect()
            except NotConnected as failure:
                return str(failure)
            finally:
                session.close()
            return ""

        yield connect


class _Grafana(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def _grafana(certificate: Path, key: Path) -> Iterator[Connect]:
    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Ignore handshake errors, which the tests cause deliberately."""

    with Server(("127.0.0.1", 0), _Grafana) as server, pytest.MonkeyPatch.context() as environment:
        server.socket = _context(certificate, key).wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        def connect(host: str, ca: Path) -> str:
            environment.setenv("SSL_CERT_FILE", str(ca))
            try:
                JsonApi("Grafana", f"https://{host}:{server.server_port}").get("/api/health")
            except ApiError as failure:
                return str(failure)
            return ""

        try:
            yield connect
        finally:
            server.shutdown()
            thread.join()


CLIENTS = {
    "loki": Client(_loki, "tls.ca_file", "url or tls.server_name"),
    "redis": Client(_redis, "tls.ca_file", "url"),
    "postgres": Client(_postgres, "sslrootcert in the DSN", "host in the DSN"),
    "grafana": Client(_grafana, "SSL_CERT_FILE", "the URL"),
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can access, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="deckwatch-tls-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def _key_only_for_its_owner(files: tuple[Path, Path]) -> tuple[Path, Path]:
    files[1].chmod(0o600)  # PostgreSQL requires it
    return files


def test_an_authority_without_key_identifiers_is_trusted_and_others_are_not(client: Client, folder: Path) -> None:
    bare, other = Authority(folder, "bare", identified=False), Authority(folder, "other", identified=False)
    with client.serve(*_key_only_for_its_owner(bare.issue("server"))) as connect:
        assert connect("127.0.0.1", bare.file) == ""
        error = connect("127.0.0.1", other.file)
        assert "certificate verify failed" in error
        assert client.authority in error.partition("Check ")[2]


@pytest.mark.parametrize("client", ["loki", "redis", "grafana"], indirect=True)  # libpq requires the whole chain
def test_an_intermediate_authority_alone_is_trusted(client: Client, folder: Path) -> None:
    intermediate = Authority(folder, "intermediate", issuer=Authority(folder, "root"))
    with client.serve(*intermediate.issue("server")) as connect:
        assert connect("127.0.0.1", intermediate.file) == ""


def test_an_expired_certificate_is_rejected(client: Client, folder: Path) -> None:
    bare = Authority(folder, identified=False)
    with client.serve(*_key_only_for_its_owner(bare.issue("server", days=-1))) as connect:
        error = connect("127.0.0.1", bare.file)
        assert "expired" in error
        assert client.authority in error


def test_a_certificate_for_another_name_is_rejected(client: Client, folder: Path) -> None:
    bare = Authority(folder, identified=False)
    with client.serve(*_key_only_for_its_owner(bare.issue("server"))) as connect:
        assert connect("127.0.0.1", bare.file) == ""
        error = connect("localhost", bare.file)
        assert "localhost" in error
        assert error.endswith(f"Check {client.name}")
