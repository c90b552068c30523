"""`deckwatch man`: the manual page, made from the commands and options."""

from __future__ import annotations

import argparse
import sys

from deckwatch import __version__

_HEAD = """.TH DECKWATCH 1 "" "Deckwatch {version}" "User Commands"
.SH NAME
deckwatch \\- observability agent for teams that run Python services
.SH SYNOPSIS
.B deckwatch
.I COMMAND
[\\fIoptions\\fR]
.SH DESCRIPTION
Deckwatch exports metrics of the host, Redis, PostgreSQL, job queues, applications and endpoints for Prometheus, and
ships logs to Loki. Without a config file, it monitors the host and what the environment names.
.SH COMMANDS
"""
_TAIL = """.SH FILES
.TP
.I ./deckwatch.yml, /etc/deckwatch/deckwatch.yml
The config, unless
.B \\-\\-config
or
.B DECKWATCH_CONFIG
names another file.
.SH EXIT STATUS
.TP
.B 0
Success.
.TP
.B 1
A failure that a retry may cure.
.TP
.B 2
Wrong command line, config or target.
.TP
.B 3
A check found something.
.SH NOTES
Output has no colors, with or without NO_COLOR.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_man)


def _man(_options: argparse.Namespace) -> int:
    from deckwatch.cli import complete_parser  # this module is loaded by it

    sys.stdout.write(_HEAD.format(version=__version__) + "".join(_commands(complete_parser(), ())) + _TAIL)
    return 0


def _commands(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> list[str]:
    """The section of each command with its options."""
    parts = []
    # argparse has no public way to list its arguments and commands.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                title = " ".join(("deckwatch", *path, name))
                parts.append(f".SS {_roff(title)}\n{_roff(helps.get(name, ''))}\n")
                parts += _commands(command, (*path, name))
        elif path and action.help != argparse.SUPPRESS and action.option_strings[-1:] != ["--help"]:
            names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
            value = f" {action.metavar or action.dest.upper()}" if action.option_strings and action.nargs != 0 else ""
            choices = f" One of: {', '.join(map(str, action.choices))}." if action.choices else ""
            parts.append(f".TP\n.B {_roff(names + value)}\n{_roff((action.help or '') + choices) or '.br'}\n")
    return parts


def _roff(text: str) -> str:
    """Text on one line that roff prints as it is."""
    plain = " ".join(text.replace("%%", "%").split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
