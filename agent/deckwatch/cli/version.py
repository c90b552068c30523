"""`deckwatch version`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deckwatch import __version__

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_version, needs_agent=False)


def _version(_options: argparse.Namespace) -> int:
    sys.stdout.write(f"deckwatch {__version__}\n")
    return 0
