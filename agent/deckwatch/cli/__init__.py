"""The command line: `deckwatch COMMAND`, with one module for each command.

Exit codes: 0 success, 1 a failure while running, 2 wrong input (command line, config or target), 3 something
that was found (`convert`: parts that were not converted), 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from deckwatch import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

#: The commands and their one-line help. Each has a module of its name with `configure(parser)`, loaded when it is used.
COMMANDS: Mapping[str, str] = {
    "init": "propose a config for what runs on this machine",
    "run": "collect, and serve /metrics",
    "check": "try the config and every target once",
    "once": "run an exporter or collector once and print its metrics",
    "advise": "suggest improvements for a target",
    "metrics": "print the catalogue of metrics",
    "logs": "inspect the logs that go to Loki",
    "dashboards": "list, export or push the Grafana dashboards",
    "alerts": "list, export or check the Prometheus alert rules",
    "gate": "exit 1 if an alert would have fired within the last minutes",
    "convert": "convert the config of another tool",
    "job": "run a command as a job that is monitored",
    "config": "inspect the config file format",
    "completion": "print a script that completes commands in a shell",
    "man": "print the manual page",
    "version": "print the version",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    words = sys.argv[1:] if arguments is None else arguments
    try:
        _run(words)
    except ModuleNotFoundError as failure:
        missing = (failure.name or "").partition(".")[0]
        if missing in ("", "deckwatch", "deckwatch_exporters"):
            raise
        command = " ".join(["deckwatch", *_commands_in(words)])
        reason = f"needs the agent's libraries ({missing} is not installed)"
        sys.stderr.write(f"{command}: {reason}. Run: pip install 'deckwatch[agent]'\n")
        sys.exit(2)


def _run(words: Sequence[str]) -> NoReturn:
    options = _parser(words)
    try:
        code = _run_agent_command(options) if options.needs_agent else options.command(options)
    except BrokenPipeError:
        # The reader of our output has closed it (`deckwatch metrics | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    if options.may_leave_threads:
        # A hung collector's thread cannot be stopped, and the interpreter would wait for it.
        os._exit(code)
    sys.exit(code)


def _run_agent_command(options: argparse.Namespace) -> int:
    """Run a command that needs the libraries of the agent."""
    from deckwatch.collection.board import UnknownSelectionError
    from deckwatch.config import ConfigError, RegistryError
    from deckwatch.config.open_files import raise_limit

    raise_limit()
    try:
        code: int = options.command(options)
    except (ConfigError, RegistryError, UnknownSelectionError) as wrong:
        print(wrong, file=sys.stderr)  # noqa: T201  this is the command line
        return 2
    return code


def _parser(arguments: Sequence[str]) -> argparse.Namespace:
    return _made(_commands_in(arguments)).parse_args(arguments)


def _commands_in(arguments: Sequence[str]) -> list[str]:
    """The name of the command, if there is one."""
    return [name for name in arguments if name in COMMANDS][:1]


def complete_parser() -> argparse.ArgumentParser:
    """The parser with the arguments of all commands. It loads the modules of all of them."""
    return _made(COMMANDS)


def _made(configured: Collection[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deckwatch", description="Monitor a Python team's stack: metrics for Prometheus, logs for Loki."
    )
    parser.add_argument("--version", action="version", version=f"deckwatch {__version__}")
    parser.set_defaults(may_leave_threads=False, needs_agent=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(name, help=help_text)
        if name in configured:
            importlib.import_module(f"deckwatch.cli.{name}").configure(command)
    return parser
