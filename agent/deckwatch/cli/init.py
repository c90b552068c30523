"""`deckwatch init`: a config for what runs on this machine."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.cli.pack_arguments import refuse
from deckwatch.discovery.machine import Machine, look
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
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    parser.add_argument(
        "--from-environment",
        action="store_true",
        help="use only REDIS_URL, DATABASE_URL, CELERY_BROKER_URL and LOKI_URL, for containers",
    )
    parser.set_defaults(command=_init)


def _init(options: argparse.Namespace) -> int:
    machine = look(os.environ)
    if options.from_environment:
        machine = replace(Machine(), variables=machine.variables, looked_at=("environment",))
    text = proposal(machine)
    if options.write is None:
        sys.stdout.write(text)
        return 0
    path = Path(options.write)
    try:
        with path.open("w" if options.force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return refuse(f"{path} exists. Choose another file, or overwrite it with --force.")
    except OSError as failure:
        return refuse(f"{path}: {failure.strerror}. Check --write.")
    for line in _summary(machine):
        sys.stdout.write(f"{line}\n")
    secrets = " write the password files that it names, then run" if "password_file" in text else ""
    sys.stdout.write(f"Wrote {path}. Next:{secrets} deckwatch check --config {path}\n")
    return 0


def _summary(machine: Machine) -> list[str]:
    found = [f"{server.kind} at {server.host}:{server.port}" for server in machine.servers]
    found += [f"{name} processes" for name in machine.process_groups]
    found += [f"${name}" for name in machine.variables]
    found += [f"logs in {pattern}" for pattern in machine.log_patterns]
    return [f"Found: {', '.join(found) or 'nothing but the host'}."]
