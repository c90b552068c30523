"""`deckwatch init`: a config for what runs on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.cli.pack_arguments import refuse
from deckwatch.discovery.choice import chosen, parts
from deckwatch.discovery.machine import Machine, look, variables
from deckwatch.discovery.proposal import proposal

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--write",
        nargs="?",
        const="deckwatch.yml",
        metavar="FILE",
        help="write the config to a file (default deckwatch.yml) instead of printing it",
    )
    parser.add_argument(
        "--yes", action="store_true", help="with --write: use everything that was found, without questions"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    parser.add_argument(
        "--from-environment",
        action="store_true",
        help="use only REDIS_URL, DATABASE_URL, CELERY_BROKER_URL and LOKI_URL, for containers",
    )
    parser.set_defaults(command=_init)


def _init(options: argparse.Namespace) -> int:
    if options.from_environment:
        machine = Machine(variables=variables(os.environ), looked_at=("environment",))
    else:
        machine = look(os.environ)
    if options.write is None:
        sys.stdout.write(proposal(machine))
        return 0
    path = Path(options.write)
    exists = f"{path} exists. Choose another file, or overwrite it with --force."
    if path.exists() and not options.force:
        return refuse(exists)
    for line in _summary(machine):
        sys.stdout.write(f"{line}\n")
    if sys.stdin.isatty() and sys.stdout.isatty() and not options.yes:
        machine = chosen(machine, _is_wanted)
    text = proposal(machine)
    try:
        with path.open("w" if options.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return refuse(exists)
    except OSError as failure:
        return refuse(f"{path}: {failure.strerror}. Check --write.")
    secrets = " write the password files that it names, then run" if "password_file" in text else ""
    sys.stdout.write(f"Wrote {path}. Next:{secrets} deckwatch check --config {path}\n")
    return 0


def _is_wanted(what: str) -> bool:
    """Ask. Enter and the end of the input mean yes."""
    while True:
        sys.stdout.write(f"Use {what}? [Y/n] ")
        sys.stdout.flush()
        answer = sys.stdin.readline().strip().lower()
        if answer in ("", "y", "yes"):
            return True
        if answer in ("n", "no"):
            return False


def _summary(machine: Machine) -> list[str]:
    found = [text for text, _, _ in parts(machine)]
    return [f"Looked at: {', '.join(machine.looked_at)}.", f"Found: {', '.join(found) or 'nothing but the host'}."]
