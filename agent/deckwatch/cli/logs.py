"""`deckwatch logs`: preview what would be shipped, and list what Loki refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deckwatch.cli import arguments
from deckwatch.collection.registry import Registry
from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.preview import PreviewError, preview, show_quarantine

#: Formats that need no other setting.
FORMATS = ("json", "logfmt", "cri", "docker", "raw")

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    tail = commands.add_parser("tail", help="print what would be shipped from some files, without sending it")
    arguments.add_config(tail)
    tail.add_argument("pattern", metavar="PATTERN", help="a file, or a glob in quotes: '/var/log/app/*.json'")
    tail.add_argument(
        "-n",
        "--lines",
        type=arguments.whole_number,
        default=10,
        metavar="N",
        help="lines from the end of each file (default 10)",
    )
    tail.add_argument("-f", "--follow", action="store_true", help="keep reading as the files grow")
    tail.add_argument(
        "--format",
        choices=FORMATS,
        help="read the lines in this format instead of by the config (default without `logs` in the config: json)",
    )
    tail.set_defaults(command=_tail)
    quarantine = commands.add_parser("quarantine", help="list the lines that Loki refused")
    arguments.add_state_dir(quarantine)
    quarantine.set_defaults(command=_quarantine)


def _tail(options: argparse.Namespace) -> int:
    logs = None if options.format else arguments.load(options, Registry.installed()).logs
    settings = logs or FileSettings(path=options.pattern, format=options.format or "json", filename_label=False)
    try:
        preview(settings, options.pattern, options.lines, options.follow, sys.stdout)
    except PreviewError as wrong:
        print(wrong, file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _quarantine(options: argparse.Namespace) -> int:
    show_quarantine(arguments.state(options) / "logs", sys.stdout)
    return 0
