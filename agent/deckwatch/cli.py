"""The command line: `deckwatch run | check | once | advise | metrics | logs | dashboards | alerts | gate | config |
version`. The commands about dashboards and alerts are in pack_commands.py.

Exit codes: 0 all is well, 1 it failed while running, 2 the command line, the config or a target is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from deckwatch import __version__
from deckwatch.board import UnknownSelectionError
from deckwatch.config import Config, ConfigError, find_config, load_config
from deckwatch.pack_commands import add_pack_commands
from deckwatch.registry import Registry, RegistryError
from deckwatch.state import state_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

_STATE = "where the log spool is (else $STATE_DIRECTORY, ~/.local/state/deckwatch)"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    options = _parser().parse_args(arguments)
    try:
        code = options.command(options)
    except (ConfigError, RegistryError, UnknownSelectionError) as wrong:
        print(wrong, file=sys.stderr)  # noqa: T201  this is the command line
        code = 2
    except BrokenPipeError:
        # Whoever read our output has left (`deckwatch metrics | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    if options.may_leave_threads:
        # A hung collector's thread cannot be stopped, and the interpreter would wait for it.
        os._exit(code)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deckwatch", description="Watches a Python team's stack: metrics for Prometheus, logs for Loki."
    )
    parser.set_defaults(may_leave_threads=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    with_config = argparse.ArgumentParser(add_help=False)
    with_config.add_argument(
        "--config", metavar="FILE", help="the config file (else $DECKWATCH_CONFIG, ./deckwatch.yml, /etc/deckwatch/)"
    )

    run = commands.add_parser("run", parents=[with_config], help="collect, and serve /metrics")
    run.add_argument("--listen", metavar="HOST:PORT", help="overrides the config's `listen`")
    run.add_argument("--state-dir", metavar="DIR", help=_STATE)
    run.set_defaults(command=_run, may_leave_threads=True)

    check = commands.add_parser("check", parents=[with_config], help="try the config and every target once")
    check.add_argument(
        "--timeout", type=_positive_seconds, default=10.0, metavar="SECONDS", help="for each collector (10)"
    )
    check.add_argument("--state-dir", metavar="DIR", help=_STATE)
    check.set_defaults(command=_check, may_leave_threads=True)

    once = commands.add_parser(
        "once", parents=[with_config], help="run an exporter or collector once, print what it gives"
    )
    once.add_argument("name", metavar="NAME", help="an exporter or a collector: system, system.cpu, ...")
    once.add_argument("--target", metavar="NAME", help="of that target only")
    once.add_argument("--format", choices=["text", "openmetrics"], default="text")
    once.set_defaults(command=_once)

    advise = commands.add_parser("advise", parents=[with_config], help="what could be better at a target, and how")
    advise.add_argument("exporter", metavar="EXPORTER", help="postgres")
    advise.add_argument("name", metavar="NAME", nargs="?", help="the target's name; all of them without it")
    advise.set_defaults(command=_advise)

    metrics = commands.add_parser("metrics", help="print the catalogue of metrics")
    metrics.add_argument("--format", choices=["table", "json", "markdown"], default="table")
    metrics.set_defaults(command=_metrics)

    logs = commands.add_parser("logs", help="about the logs that go to Loki")
    about_logs = logs.add_subparsers(metavar="COMMAND", required=True)
    tail = about_logs.add_parser(
        "tail", parents=[with_config], help="print what would be sent of some files, without sending it"
    )
    tail.add_argument("pattern", metavar="PATTERN", help="a file, or a glob in quotes: '/var/log/app/*.json'")
    tail.add_argument("-n", "--lines", type=_whole_number, default=10, metavar="N", help="the last N of each file (10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as the files grow")
    tail.set_defaults(command=_logs_tail)
    quarantine = about_logs.add_parser("quarantine", help="list the lines that Loki refused")
    quarantine.add_argument("--state-dir", metavar="DIR", help=_STATE)
    quarantine.set_defaults(command=_logs_quarantine)

    add_pack_commands(commands)

    config = commands.add_parser("config", help="about the config file")
    about_config = config.add_subparsers(metavar="COMMAND", required=True)
    schema = about_config.add_parser("schema", help="print the JSON schema of the config file, for editors")
    schema.set_defaults(command=_schema)

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(command=_version)
    return parser


def _positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _load(options: argparse.Namespace, registry: Registry) -> Config:
    path = find_config(Path(options.config) if options.config else None, os.environ, Path.cwd())
    return load_config(path, os.environ, registry)


def _state(options: argparse.Namespace) -> Path:
    return state_folder(options.state_dir, os.environ)


def _run(options: argparse.Namespace) -> int:
    from deckwatch.run import run  # the server is loaded by the one command that needs it

    registry = Registry.installed()
    return run(lambda: _load(options, registry), registry, options.listen, _state(options))


def _check(options: argparse.Namespace) -> int:
    from deckwatch.check import check

    registry = Registry.installed()
    return check(_load(options, registry), registry, options.timeout, sys.stdout, _state(options))


def _once(options: argparse.Namespace) -> int:
    from deckwatch.once import expose_once

    registry = Registry.installed()
    exposition, errors = expose_once(
        _load(options, registry), registry, options.name, options.target, options.format == "openmetrics"
    )
    sys.stdout.write(exposition)
    for error in errors:
        print(error, file=sys.stderr)  # noqa: T201  this is the command line
    return 1 if errors else 0


def _advise(options: argparse.Namespace) -> int:
    from deckwatch.advise import advise

    registry = Registry.installed()
    return advise(_load(options, registry), registry, options.exporter, options.name, sys.stdout)


def _metrics(options: argparse.Namespace) -> int:
    from deckwatch.catalogue import catalogue, render

    sys.stdout.write(render(catalogue(Registry.installed()), options.format))
    return 0


def _logs_tail(options: argparse.Namespace) -> int:
    from deckwatch.logs.preview import PreviewError, preview

    config = _load(options, Registry.installed())
    if config.logs is None:
        print(f"{config.path or 'the defaults'}: there is no `logs` in the config", file=sys.stderr)  # noqa: T201
        return 2
    try:
        preview(config.logs, options.pattern, options.lines, options.follow, sys.stdout)
    except PreviewError as wrong:
        print(wrong, file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _logs_quarantine(options: argparse.Namespace) -> int:
    from deckwatch.logs.preview import show_quarantine

    show_quarantine(_state(options) / "logs", sys.stdout)
    return 0


def _schema(_options: argparse.Namespace) -> int:
    import json

    from deckwatch.config import json_schema

    sys.stdout.write(json.dumps(json_schema(Registry.installed()), indent=2) + "\n")
    return 0


def _version(_options: argparse.Namespace) -> int:
    sys.stdout.write(f"deckwatch {__version__}\n")
    return 0
