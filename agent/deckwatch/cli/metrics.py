"""`deckwatch metrics`: the catalogue as a table, JSON or Markdown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deckwatch.cli.catalogue import catalogue
from deckwatch.cli.table import table
from deckwatch.collection.registry import Registry
from deckwatch.metrics.catalogue import HEADER, as_json, as_markdown

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=["table", "json", "markdown"], default="table")
    parser.set_defaults(command=_metrics)


def _metrics(options: argparse.Namespace) -> int:
    registry = Registry.installed()
    found = catalogue(registry)
    match options.format:
        case "json":
            text = as_json(found)
        case "markdown":
            text = as_markdown(found)
        case _:
            text = table(HEADER, [entry.row for entry in found])
    sys.stdout.write(text)
    problems = registry.loadable()[1]
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201  this is the command line
    return 1 if problems else 0
