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
    found = catalogue(Registry.installed())
    match options.format:
        case "json":
            text = as_json(found)
        case "markdown":
            text = as_markdown(found)
        case _:
            text = table(HEADER, [entry.row for entry in found])
    sys.stdout.write(text)
    return 0
