"""`deckwatch once`: one run of some collectors, printed as an exposition."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deckwatch.cli import arguments
from deckwatch.collection.board import Board, Selection, UnknownSelectionError
from deckwatch.collection.registry import Registry
from deckwatch.collection.run import SeriesBudget, run_once
from deckwatch.collection.targets import open_target
from deckwatch.logs.printable import printable_line
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    import argparse

    from deckwatch.config import Config


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_config(parser)
    parser.add_argument("name", metavar="NAME", help="an exporter or a collector: system, system.cpu, ...")
    parser.add_argument("--target", metavar="NAME", help="only the target of this name")
    parser.add_argument("--format", choices=["text", "openmetrics"], default="text")
    parser.set_defaults(command=_once)


def _once(options: argparse.Namespace) -> int:
    registry = Registry.installed()
    exposition, errors = expose_once(
        arguments.load(options, registry), registry, options.name, options.target, options.format == "openmetrics"
    )
    sys.stdout.write(exposition)
    for error in errors:
        print(printable_line(error), file=sys.stderr)  # noqa: T201  this is the command line
    return 1 if errors else 0


def expose_once(
    config: Config, registry: Registry, name: str, target: str | None, openmetrics: bool
) -> tuple[str, list[str]]:
    """The exposition of what `name` (an exporter or one of its collectors) gives, and the errors of what failed.

    Raises UnknownSelectionError for a name that the config does not have.
    """
    board = Board()
    errors = []
    exporter_name = name.partition(".")[0]
    known = []
    for configured in config.targets:
        exporter = registry.get(configured.exporter)
        if configured.exporter != exporter_name or target not in (None, configured.name):
            known.append(configured.exporter)
            continue
        budget = SeriesBudget(configured.max_series or exporter.max_series)
        opened = open_target(exporter, configured, dict(config.thresholds))
        for named in opened.collectors:
            known.append(named.name)
            if name not in (exporter_name, named.name):
                continue
            board.add(named, configured.exporter, exporter.scrape_prefix, 3600)
            snapshot = run_once(named, Encoder(), budget)
            board.post(snapshot, 3600)
            if snapshot.cause:
                errors.append(f"{named.name}: {snapshot.cause}")
            errors += [f"{named.name}: {it.what}: {it.text}" for it in snapshot.malformed]
        opened.close()
    if not board.slots():
        where = f" of target {target!r}" if target else ""
        raise UnknownSelectionError(
            f"unknown collector {name!r}{where}; the config has: {', '.join(sorted(set(known)))}"
        )
    return board.render(Selection(), openmetrics, compress=False).decode(), errors
