"""The programs of an example: how they are configured, and the order in which they start and stop."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import yaml

from deckwatch.collection.registry import Registry
from deckwatch.config import load_config
from deckwatch.pack.slos import SLO_FILE, slo_rules
from demo import servers
from demo.programs import DemoError, Program, environment, free_port, is_up
from demo.times import dump, shorten_rules, until_message
from demo.watch import Caused

from .definition import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo.programs import Programs

    from .definition import Example, FaultDefinition

#: Where `make example` installs the libraries of the applications.
PYTHON = servers.ROOT / ".venv" / "examples" / "bin" / "python"
NODE_MODULES = servers.ROOT / ".venv" / "examples-node" / "node_modules"


@dataclass
class System:
    """A system with its programs in the order of their start. `environ` has its addresses, for programs and agent."""

    name: str
    folder: Path
    environ: dict[str, str]
    agent_url: str
    alertmanager_url: str
    prometheus_url: str
    rules: dict[str, dict[str, Any]]  # alert rules as loaded by Prometheus, by name
    fast: bool
    programs: dict[str, Program]
    after_start: dict[str, Callable[[], None]] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the programs one after the other. On exit, stop all of them in parallel."""
        try:
            for name, program in self.programs.items():
                program.start()
                if name in self.after_start:
                    self.after_start[name]()
            yield
        finally:
            for program in self.programs.values():
                program.request_stop()
            for program in self.programs.values():
                program.stop()

    def caused(self, name: str, fault: FaultDefinition) -> Caused:
        after = until_message(self.rules[fault.alerts[0]], self.fast, fault.builds_up, fault.takes)
        return Caused(name, fault.what, fault.alerts, after, lambda: self.fault(fault))

    @contextlib.contextmanager
    def fault(self, fault: FaultDefinition) -> Iterator[None]:
        """Cause the fault, and fix it at the end."""
        program = self.programs[fault.program]
        match fault.how:
            case "send":
                program.send_line(fault.send)
                yield
                program.send_line(fault.undo or fault.send)
            case "pause":
                program.signal_all(signal.SIGSTOP)
                yield
                program.signal_all(signal.SIGCONT)
            case how:
                if how == "kill":
                    program.signal_all(signal.SIGKILL)
                program.stop()
                yield
                program.start()


def build(name: str, example: Example, folder: Path, found: Programs, hook: str, loki: str, fast: bool) -> System:
    """Write the config files into `folder` and run initdb. Starts no program. Raises DemoError.

    `hook` is the URL that Alertmanager calls, `loki` the URL that the agent ships logs to.
    """
    if not PYTHON.exists():
        raise DemoError(f"{PYTHON} does not exist. Run: make example NAME={name}")
    source = FOLDER / name
    for part in ("apps", "logs", "secrets"):
        (folder / part).mkdir(0o700)
    environ = {
        "DECKWATCH_APP_DIR": str(folder / "apps"),
        "LOG_DIR": str(folder / "logs"),
        "PYTHONPATH": f"{servers.ROOT / 'agent'}:{source}",
        "LOKI_URL": loki,
        "NODE_PATH": str(NODE_MODULES),
        **{name: os.environ.get(name, value) for name, value in example.environ.items()},
    }
    programs: dict[str, Program] = {}
    after: dict[str, Callable[[], None]] = {}
    if "redis" in example.servers:
        port, password = free_port(), _password(folder, "redis")
        environ["REDIS_URL"] = f"redis://:{password}@127.0.0.1:{port}/0"
        programs["redis"] = servers.redis(folder, found, port, password)
    if "postgres" in example.servers:
        port = free_port()
        passwords = {role: _password(folder, role) for role in ("app", "monitor")}
        admin = f"postgresql://postgres:{(password := _password(folder, 'postgres'))}@127.0.0.1:{port}"
        for variable, role in (("DATABASE_URL", "app"), ("MONITOR_URL", "monitor")):
            environ[variable] = f"postgresql://{role}:{passwords[role]}@127.0.0.1:{port}/app"
        programs["postgres"] = servers.postgres(folder, found, port, password)
        schema = (source / example.schema_file).read_text() if example.schema_file else ""

        def create() -> None:
            # Not after a restart by a fault.
            if after.pop("postgres", None):
                servers.create_database(admin, "app", passwords)
                with psycopg.connect(environ["DATABASE_URL"], autocommit=True) as connection:
                    connection.execute(schema.encode())

        after["postgres"] = create
    ports = {program: free_port() for program in example.programs}
    for program, port in ports.items():
        environ[f"{program.upper().replace('-', '_')}_URL"] = f"http://127.0.0.1:{port}"
    for program, definition in example.programs.items():
        values = {**environ, "port": ports[program], "folder": folder}
        command = [word.format(**values) for word in shlex.split(definition.run)]
        command[0] = str(PYTHON) if command[0] == "python" else command[0]
        own = {"DECKWATCH_SERVICE": definition.service or program, "PORT": str(ports[program]), **definition.environ}
        url = f"http://127.0.0.1:{ports[program]}{definition.ready}"
        programs[program] = Program(
            program,
            command,
            folder / f"{program}.log",
            (lambda url=url: is_up(url)) if definition.ready else lambda: True,  # type: ignore[misc]
            environ=environment() | environ | own,
            folder=source,
        )
    agent, agent_url = servers.agent(folder, source / "deckwatch.yml", f"127.0.0.1:{free_port()}", **environ)
    alertmanager, alertmanager_url = servers.alertmanager(folder, found, hook, fast)
    prometheus, prometheus_url = servers.prometheus(folder, found, agent_url, alertmanager_url, fast)
    programs |= {"agent": agent, "alertmanager": alertmanager, "prometheus": prometheus}
    rules = servers.rules(folder, fast) | _slo_rules(folder, source / "deckwatch.yml", environ, fast)
    return System(
        name, folder, environ, agent_url, alertmanager_url, prometheus_url, rules, fast, programs, after_start=after
    )


def _slo_rules(folder: Path, config: Path, environ: dict[str, str], fast: bool) -> dict[str, dict[str, Any]]:
    """Write the rules of the config's objectives for Prometheus. Return the alert rules by name."""
    slos = load_config(config, environ, Registry.installed()).settings.slos
    content = yaml.safe_load(slo_rules(slos)) if slos else {"groups": []}
    content = shorten_rules(content) if fast else content
    (folder / SLO_FILE).write_text(dump(content))
    return {rule["alert"]: rule for group in content["groups"] for rule in group["rules"] if "alert" in rule}


def _password(folder: Path, name: str) -> str:
    password = secrets.token_urlsafe(18)
    servers.secret(folder / "secrets" / name, password)
    return password
