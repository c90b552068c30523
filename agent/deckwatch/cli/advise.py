"""`deckwatch advise`: possible improvements of a target, the figures that show them, and statements to run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from deckwatch.cli import arguments
from deckwatch.cli.progress import Progress
from deckwatch.collection.board import UnknownSelectionError
from deckwatch.collection.registry import Registry
from deckwatch.exporter import describe
from deckwatch.logs.printable import printable, printable_line

if TYPE_CHECKING:
    import argparse

    from deckwatch.config import Config
    from deckwatch.exporter import Advice


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_config(parser)
    parser.add_argument("exporter", metavar="EXPORTER", help="postgres")
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of a target (default: all targets)")
    parser.set_defaults(command=_advise)


def _advise(options: argparse.Namespace) -> int:
    registry = Registry.installed()
    return advise(arguments.load(options, registry), registry, options.exporter, options.name, sys.stdout)


def advise(config: Config, registry: Registry, exporter_name: str, name: str | None, out: TextIO) -> int:
    """Print the advice on each target of the exporter, or on the named one. Returns 1 if a target failed, otherwise 0.

    Raises UnknownSelectionError if the config has no such target or the exporter gives no advice.
    """
    look = registry.get(exporter_name).advise if exporter_name in registry.names() else None
    if look is None:
        raise UnknownSelectionError(f"no advice is available for {exporter_name!r}")
    targets = [target for target in config.targets if target.exporter == exporter_name and name in (None, target.name)]
    if not targets:
        known = ", ".join(sorted(target.name for target in config.targets if target.exporter == exporter_name))
        wanted = f"target {name!r} of {exporter_name}" if name else f"target of {exporter_name}"
        raise UnknownSelectionError(f"there is no {wanted} in the config; it has: {known or 'none'}")
    code = 0
    progress = Progress(len(targets), "targets examined")
    for number, target in enumerate(targets):
        title = f"{target.exporter} {target.name}".strip()
        try:
            with progress.while_busy(number):
                found = list(look(target.settings))
        except Exception as failure:  # noqa: BLE001  the failure of one target must not hide the others
            print(printable_line(f"{title}: {describe(failure)}"), file=out)
            code = 1
            continue
        if not found:
            print(f"{title}: nothing to improve", file=out)
            continue
        print(f"{title}: {len(found)} possible improvements. Deckwatch does not run any of these statements.", file=out)
        for advice in found:
            print(printable(_shown(advice)), file=out)
    return code


def _shown(advice: Advice) -> str:
    """The remedy is on separate lines, so that it can be copied."""
    remedy = "".join(f"\n    {line}" for line in advice.remedy.split("\n"))
    return f"\n  {advice.kind}: {advice.subject}\n    {advice.figure}{remedy}"
