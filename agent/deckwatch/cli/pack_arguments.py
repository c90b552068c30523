"""Shared by the commands for dashboards, alerts and the gate: `export`, URLs, and how API errors are reported."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deckwatch.cli import arguments
from deckwatch.pack.export import export
from deckwatch.pack.files import PackError
from deckwatch.pack.json_api import ApiError, JsonApi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PROMETHEUS_TIMEOUT = 30.0


def add_export(commands: Any, help: str) -> argparse.ArgumentParser:
    """Add `export DIR` for a part of the pack; the caller sets its command."""
    parser: argparse.ArgumentParser = commands.add_parser("export", help=help)
    parser.add_argument("folder", metavar="DIR", help="is created if it does not exist")
    parser.add_argument("--force", action="store_true", help="also overwrite files that were changed")
    arguments.add_config(parser)
    return parser


def run_export(part: str, options: argparse.Namespace, generated: Mapping[str, bytes]) -> int:
    """Write a part of the pack and the `generated` files into the folder, and return the exit code."""
    return with_api_errors(lambda: export(part, Path(options.folder), options.force, sys.stdout, generated))


def url(text: str) -> str:
    try:
        JsonApi("", text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None  # without the text: it may have a password
    return text


def prometheus(url: str) -> JsonApi:
    return JsonApi("Prometheus", url, timeout=_PROMETHEUS_TIMEOUT)


def refuse(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201  this is the command line
    return 2


def with_api_errors(command: Callable[[], int], failed: int = 1) -> int:
    """Run a command and return its exit code; `failed`, with one line on stderr, when a service or the pack fails."""
    try:
        return command()
    except (ApiError, PackError) as failure:
        sys.stdout.flush()
        print(failure, file=sys.stderr)  # noqa: T201  this is the command line
        return failed
