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
    sys.stdout.write(json.dumps(json_schema(Registry.installed()), indent=2) + "\n")
    return 0
