"""`deckwatch advise`: suggested improvements, each with its reason and statement."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deckwatch.cli import arguments
from deckwatch.collection.board import UnknownSelectionError
from deckwatch.collection.registry import Registry
from deckwatch.exporter import describe
from deckwatch.logs.printable import printable, printable_line

if TYPE_CHECKING:
    import argparse

    from deckwatch.config import Config

_WIDTH_OF_A_PIPE = 160


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_config(parser)
    parser.add_argument("exporter", metavar="EXPORTER", help="postgres")
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of a target (default: all targets)")
    parser.set_defaults(command=_advise)


def _advise(options: argparse.Namespace) -> int:
    registry = Registry.installed()
    return advise(arguments.load(options, registry), registry, options.exporter, options.name, sys.stdout)


def advise(config: Config, registry: Registry, exporter_name: str, name: str | None, out: TextIO) -> int:
    """Print a table for each target of the exporter, or for the named one. 0, or 1 when a target did not answer.

    Raises UnknownSelectionError for an unknown target or an exporter without advice.
    """
    look = registry.get(exporter_name).advise if exporter_name in registry.names() else None
    if look is None:
        raise UnknownSelectionError(f"no advice is available for {exporter_name!r}")
    targets = [target for target in config.targets if target.exporter == exporter_name and name in (None, target.name)]
    if not targets:
        known = ", ".join(sorted(target.name for target in config.targets if target.exporter == exporter_name))
        wanted = f"target {name!r} of {exporter_name}" if name else f"target of {exporter_name}"
        raise UnknownSelectionError(f"there is no {wanted} in the config; it has: {known or 'none'}")
    console = Console(file=out, width=None if out.isatty() else _WIDTH_OF_A_PIPE, highlight=False)
    code = 0
    for target in targets:
        title = f"{target.exporter} {target.name}".strip()
        try:
            found = list(look(target.settings))
        except Exception as failure:  # noqa: BLE001  the failure of one target must not hide the others
            console.print(Text(printable_line(f"{title}: {describe(failure)}")))
            code = 1
            continue
        if not found:
            console.print(Text(f"{title}: nothing to improve"))
            continue
        table = Table(
            "What", "Where", "Figure", "How to improve it", title=title, box=box.SIMPLE_HEAD, title_justify="left"
        )
        for advice in found:
            # As text: a bracket in a query is no markup.
            table.add_row(
                *(Text(printable(part)) for part in (advice.kind, advice.subject, advice.figure, advice.remedy))
            )
        console.print(table)
    return code
