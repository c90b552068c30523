"""The command `python -m examples NAME`, which must run in a checkout. See README.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from demo.programs import DemoError, find_programs, temporary
from demo.watch import Watch, interrupt_on_signals, no_second_interrupt, say
from demo.webhook import webhook

from . import definition
from .stand_in import loki_stand_in
from .system import System, build

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an example. Return 0 after Ctrl-C, TERM or HUP, 1 if a program fails, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(
        prog="python -m examples", description="Run an example beside Prometheus and Alertmanager, until Ctrl-C."
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"the example: {', '.join(definition.names())}")
    parser.add_argument("--fault", default="", metavar="NAME", help="fault to cause after the start; `help` lists them")
    parser.add_argument("--real-time", action="store_true", help="do not shorten the times of the alerts")
    options = parser.parse_args(arguments)
    if options.name is None:
        sys.stderr.write(f"Choose an example: make example NAME={'|'.join(definition.names())}\n")
        return 2
    try:
        example = definition.load(options.name)
    except DemoError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    faults = "\n".join(f"  {name:<16} {it.what}: {it.alerts[0]}" for name, it in example.faults.items())
    if options.fault == "help":
        say(f"make example NAME={options.name} FAULT=...\n{faults}")
        return 0
    if options.fault and options.fault not in example.faults:
        sys.stderr.write(f"Unknown fault: FAULT={options.fault}. Choose one of:\n{faults}\n")
        return 2
    interrupt_on_signals()
    try:
        _run(options.name, example, options.fault, not options.real_time)
    except DemoError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        say("Stopped. All programs have ended and their data was deleted.")
    return 0


def _run(name: str, example: definition.Example, fault: str, fast: bool) -> None:
    """Run until KeyboardInterrupt, which is raised again when all programs have ended. Raises DemoError."""
    found = find_programs()
    with contextlib.ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="deckwatch-demo-"))
        ending.enter_context(temporary(folder))
        ending.callback(no_second_interrupt)
        hook, received = ending.enter_context(webhook())
        loki = os.environ.get("LOKI_URL") or ending.enter_context(loki_stand_in())
        say(f"Starting {example.title} ...")
        system = build(name, example, folder, found, hook, loki, fast)
        ending.enter_context(system.running())
        ending.callback(no_second_interrupt)
        _introduce(system, example)
        caused = system.caused(fault, example.faults[fault]) if fault else None
        Watch(list(system.programs.values()), received, caused).run()


def _introduce(system: System, example: definition.Example) -> None:
    rows = [
        (name, system.environ[f"{name.upper().replace('-', '_')}_URL"])
        for name, program in example.programs.items()
        if program.ready
    ]
    rows += [
        ("status page", f"{system.agent_url}/"),
        ("Prometheus", system.prometheus_url),
        ("Alertmanager", f"{system.alertmanager_url}/"),
    ]
    say()
    for name, url in rows:
        say(f"  {name:<13} {url}")
    say()
    if not os.environ.get("LOKI_URL"):
        say("Logs go to a stand-in that only confirms them. Set LOKI_URL to ship them.")
    say(f"examples/{system.name}/README.md says what to look at. Alerts are printed here. Press Ctrl-C to stop.")
    say()


if __name__ == "__main__":
    sys.exit(main())
