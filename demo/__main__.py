"""The command `python -m demo`, which must run in a checkout. See README.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from .faults import FAULTS
from .programs import DemoError, find_programs, temporary
from .stack import Stack, build
from .times import FACTOR, SCRAPE_INTERVAL
from .watch import Caused, Watch, interrupt_on_signals, no_second_interrupt, say
from .webhook import webhook

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Return 0 after Ctrl-C, TERM or HUP, 1 if a program is missing or fails, 2 for a wrong argument."""
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="Run Deckwatch with everything it works with, until Ctrl-C."
    )
    parser.add_argument("--fault", default="", metavar="NAME", help="fault to cause after the start; `help` lists them")
    parser.add_argument("--real-time", action="store_true", help="do not shorten the times of the alerts")
    options = parser.parse_args(arguments)
    if options.fault == "help":
        say(fault_list())
        return 0
    if options.fault and options.fault not in FAULTS:
        sys.stderr.write(f"Unknown fault: FAULT={options.fault}. Choose one of:\n{fault_list()}\n")
        return 2
    interrupt_on_signals()
    try:
        run(options.fault, not options.real_time)
    except DemoError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        say("Stopped. All programs have ended and their data was deleted.")
    return 0


def fault_list() -> str:
    lines = [f"  {name:<14} {fault.what}: {fault.alerts[0]}" for name, fault in FAULTS.items()]
    return "\n".join(["make demo FAULT=...", *lines])


def run(fault: str, fast: bool) -> None:
    """Run until KeyboardInterrupt, which is raised again when all programs have ended. Raises DemoError."""
    found = find_programs()
    if fault:
        FAULTS[fault].needs()
    loki = os.environ.get("LOKI_URL") or None
    with contextlib.ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="deckwatch-demo-"))
        ending.enter_context(temporary(folder))
        ending.callback(no_second_interrupt)
        hook, received = ending.enter_context(webhook())
        say("Starting Redis, PostgreSQL, the agent, Alertmanager and Prometheus ...")
        stack = build(folder, found, hook, loki, fast)
        if fault:
            FAULTS[fault].prepare(stack)
        ending.enter_context(stack.running())
        ending.callback(no_second_interrupt)
        introduce(stack, loki)
        Watch(stack.programs, received, caused(stack, fault) if fault else None).run()


def caused(stack: Stack, name: str) -> Caused:
    fault = FAULTS[name]
    return Caused(name, fault.what, fault.alerts, fault.expected_after(stack), lambda: fault.run(stack))


def introduce(stack: Stack, loki: str | None) -> None:
    pages = stack.prometheus_pages
    rows = [
        ("status page", f"{stack.agent_url}/", "targets and the state of each collector"),
        ("metrics", f"{stack.agent_url}/metrics", f"scraped by Prometheus every {SCRAPE_INTERVAL} s"),
        ("Prometheus", f"{pages}/alerts", "alert rules and their states"),
        ("", f"{pages}/graph?g0.expr=pg_stat_activity_count&g0.tab=0", "try a query"),
        ("Alertmanager", f"{stack.alertmanager_url}/", "firing, grouped and inhibited alerts"),
    ]
    width = max(len(url) for _, url, _ in rows)
    say()
    for name, url, what in rows:
        say(f"  {name:<13} {url:<{width}}  {what}")
    say()
    if stack.fast:
        say(f"The times of the shipped alert rules are divided by {FACTOR} (a minute becomes 2 s), except for rules")
        say("on this host's CPU, memory and clock. Set FAST=0 to keep the shipped times.")
    else:
        say("The alert rules have their shipped times.")
    if loki:
        say(f"Logs are shipped to the Loki server at {urllib.parse.urlsplit(loki).hostname}.")
    else:
        say("Logs are off because the distribution has no Loki. Set LOKI_URL to ship them.")
    say("Alerts are printed here. Press Ctrl-C to stop the demo.")
    say()


if __name__ == "__main__":
    sys.exit(main())
