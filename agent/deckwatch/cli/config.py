"""`deckwatch config schema`: the JSON schema of the config file."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from deckwatch.collection.registry import Registry
from deckwatch.config import json_schema

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    schema = commands.add_parser("schema", help="print the JSON schema of the config file, for editors")
    schema.set_defaults(command=_schema)


def _schema(_options: argparse.Namespace) -> int:
    registry = Registry.installed()
    exporters, problems = registry.loadable()
    sys.stdout.write(json.dumps(json_schema(exporters), indent=2) + "\n")
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201  this is the command line
    return 1 if problems else 0
