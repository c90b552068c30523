"""A real RabbitMQ for the tests, with its management API and its Prometheus plugin."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pika

from certificates import Authority
from databases import Server
from services import fetch, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # the one on the PATH has its own folders and changes the user
PASSWORD = "rabbit-secret"


@dataclass
class RabbitmqServer(Server):
    """A separate node with the user `guest` (password `guest`), an administrator."""

    tls_port: int = 0
    management_port: int = 0
    prometheus_port: int = 0
    epmd_port: int = 0

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    def url(self, vhost: str, user: str = "guest", password: str = "guest") -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def api(self, method: str, *segments: str, body: Any = None) -> Any:
        """Call the management API. Return the parsed response, None if it is empty."""
        path = "/".join(quote(segment, safe="") for segment in segments)
        answer = httpx.request(
            method, f"{self.management_url}/api/{path}", json=body, auth=("guest", "guest"), timeout=60
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def new_vhost(self) -> str:
        """Create a virtual host with a unique name."""
        vhost = f"shop-{secrets.token_hex(4)}"
        self.api("PUT", "vhosts", vhost)
        return vhost

    def add_user(self, vhost: str, tags: str = "", may_access: bool = True) -> str:
        """Create a user with PASSWORD, and return the name."""
        user = f"user-{secrets.token_hex(4)}"
        self.api("PUT", "users", user, body={"password": PASSWORD, "tags": tags})
        if may_access:
            rights = {"configure": "^$", "write": "^$", "read": "^$"}
            self.api("PUT", "permissions", vhost, user, body=rights)
        return user

    @contextlib.contextmanager
    def channel(self, vhost: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        with pika.BlockingConnection(pika.URLParameters(self.url(vhost))) as connection:
            yield connection.channel()

    def plugin_metrics(self) -> str:
        """Return what the Prometheus plugin exports for each object."""
        return fetch(f"http://127.0.0.1:{self.prometheus_port}/metrics/per-object")[1]

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log
        try:
            # The API first: pika logs each failure to connect at length.
            self.api("GET", "overview")
            with self.channel("/"):
                return True
        except (pika.exceptions.AMQPError, httpx.HTTPError):
            return False

    def stop(self) -> None:
        """Stop it with an orderly shutdown."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End it at once: an orderly shutdown takes several seconds."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        """End it and its port mapper, and remove its folder."""
        self.kill()
        # The node starts its port mapper as a daemon, which ends only after the node has left it.
        until(lambda: _ended(self.epmd_port), what="epmd ending")
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def rabbitmq_server() -> Iterator[RabbitmqServer]:
    """Run a node with its own name, data, cookie and port mapper. It takes about six seconds to start."""
    # A node listens seconds after its ports were chosen: another program may have taken one of them.
    for is_last in (False, False, True):
        server = _node()
        try:
            server.start()
        except AssertionError:
            server.remove()
            if is_last:
                raise
        else:
            break
    try:
        yield server
    finally:
        server.remove()


def _node() -> RabbitmqServer:
    """Return a node that is not started yet."""
    home = Path(tempfile.mkdtemp(prefix="deckwatch-rabbitmq-"))
    port, tls, management, prometheus, epmd, distribution = (free_port() for _ in range(6))
    certificate, key = Authority(home).issue("server")
    (home / ".erlang.cookie").write_text(secrets.token_hex(10))
    (home / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
    (home / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = 127.0.0.1:{tls}\n"
        f"ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n"
        f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
        f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {prometheus}\n"
        "log.console = true\nlog.file = false\n"
        # Statistics are 5 s old by default, which would only make the tests wait.
        "collect_statistics_interval = 200\n"
    )
    policies = ", ".join(f"{{{name}, [{{60, 1}}]}}" for name in ("global", "basic", "detailed"))
    (home / "advanced.config").write_text(
        "[{rabbit, [{quorum_tick_interval, 200}]},\n"
        f" {{rabbitmq_management, [{{sample_retention_policies, [{policies}]}}]}}].\n"
    )
    (home / ".erlang.cookie").chmod(0o400)
    is_root = os.getuid() == 0
    if is_root:
        for path in (home, *home.iterdir()):
            shutil.chown(path, "rabbitmq", "rabbitmq")
    environ = {
        "HOME": home,
        "RABBITMQ_NODENAME": f"deckwatch-{port}@localhost",
        "RABBITMQ_MNESIA_BASE": home,
        "RABBITMQ_LOG_BASE": home,
        "RABBITMQ_PID_FILE": home / "pid",
        "RABBITMQ_ENABLED_PLUGINS_FILE": home / "enabled_plugins",
        "RABBITMQ_CONFIG_FILE": home / "rabbitmq.conf",
        "RABBITMQ_ADVANCED_CONFIG_FILE": home / "advanced.config",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_DIST_PORT": distribution,
        "RUNNING_UNDER_SYSTEMD": 1,  # replaces the script by the node, so that signals reach it
        "ERL_EPMD_PORT": epmd,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    assert Path(_PROGRAM).exists(), "RabbitMQ is not installed; tests/install-services.sh installs it"
    command = ["env", *(f"{name}={value}" for name, value in environ.items()), _PROGRAM]
    return RabbitmqServer(
        command,
        home,
        port,
        as_user="rabbitmq" if is_root else "",
        tls_port=tls,
        management_port=management,
        prometheus_port=prometheus,
        epmd_port=epmd,
    )


def _ended(port: int) -> bool:
    command = ["epmd", "-port", str(port), "-kill"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return "Killed" in done.stdout or "Cannot connect" in done.stdout + done.stderr
