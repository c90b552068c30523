"""`python -m demo`, from the checkout: see README.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import select
import signal
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from .faults import FAULTS
from .programs import DemoError, find_programs, folder_that_goes
from .stack import SCRAPE_INTERVAL, Stack, build
from .times import FACTOR
from .webhook import Notice, webhook

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds before the trouble: some scrapes of how it is without it.
_QUIET = 3 * SCRAPE_INTERVAL


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """With the time of day."""
    say(f"{time.strftime('%H:%M:%S')}  {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 after Ctrl-C (or TERM, or HUP); 1 when something is missing or does not start; 2 for a wrong argument."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Deckwatch and all around it, until Ctrl-C.")
    parser.add_argument("--fault", default="", metavar="NAME", help="trouble to begin soon after; `help` lists them")
    parser.add_argument("--real-time", action="store_true", help="the alerts' times as shipped, not shortened")
    options = parser.parse_args(arguments)
    if options.fault == "help":
        say(fault_list())
        return 0
    if options.fault and options.fault not in FAULTS:
        sys.stderr.write(f"There is no FAULT={options.fault}; there are:\n{fault_list()}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # Where it was started in the background by a shell, SIGINT would be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(options.fault, not options.real_time)
    except DemoError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        say("Stopped; nothing is left.")
    return 0


def fault_list() -> str:
    lines = [f"  {name:<14} {fault.what}: {fault.alerts[0]}" for name, fault in FAULTS.items()]
    return "\n".join(["make demo FAULT=...", *lines])


def run(fault: str, fast: bool) -> None:
    """Until KeyboardInterrupt, which is raised again when everything has ended. Raises DemoError."""
    found = find_programs()
    if fault:
        FAULTS[fault].needs()
    loki = os.environ.get("LOKI_URL") or None
    with contextlib.ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="deckwatch-demo-"))
        ending.enter_context(folder_that_goes(folder))
        ending.callback(_no_second_interrupt)
        hook, received = ending.enter_context(webhook())
        say("Starting Redis, PostgreSQL, the agent, Alertmanager and Prometheus ...")
        stack = build(folder, found, hook, loki, fast)
        if fault:
            FAULTS[fault].prepare(stack)
        ending.enter_context(stack.running())
        ending.callback(_no_second_interrupt)
        introduce(stack, loki)
        Watch(stack, received, fault).run()


def _no_second_interrupt() -> None:
    """The end goes on when Ctrl-C is pressed again; it takes some seconds at the most."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def introduce(stack: Stack, loki: str | None) -> None:
    pages = stack.prometheus_pages
    rows = [
        ("status page", f"{stack.agent_url}/", "what is watched, and how each collector fares"),
        ("metrics", f"{stack.agent_url}/metrics", "what Prometheus reads each 5 s"),
        ("Prometheus", f"{pages}/alerts", "each rule, and how near it is to firing"),
        ("", f"{pages}/graph?g0.expr=pg_stat_activity_count&g0.tab=0", "try a query"),
        ("Alertmanager", f"{stack.alertmanager_url}/", "what fires, is grouped, is inhibited"),
    ]
    width = max(len(url) for _, url, _ in rows)
    say()
    for name, url, what in rows:
        say(f"  {name:<13} {url:<{width}}  {what}")
    say()
    if stack.fast:
        say(f"The rules are the shipped ones with their times divided by {FACTOR} (a minute is 2 s), those about this")
        say("host's own CPU, memory and clock aside. FAST=0 leaves all times as shipped.")
    else:
        say("The rules and their times are the shipped ones.")
    if loki:
        say(f"Logs go to the Loki at {urllib.parse.urlsplit(loki).hostname}.")
    else:
        say("Logs are off: the distribution has no Loki. With LOKI_URL set they are shipped there.")
    say("Alerts are printed here. Ctrl-C ends everything.")
    say()


class Watch:
    """What happens while the demo runs: alerts, the trouble and its mend, and programs that end by themselves."""

    def __init__(self, stack: Stack, received: queue.SimpleQueue[Notice], fault: str) -> None:
        self._stack = stack
        self._received = received
        self._name = fault
        self._fault = FAULTS[fault] if fault else None
        self._trouble = contextlib.ExitStack()
        self._since: float | None = None  # when the trouble began, on the monotonic clock
        self._awaited: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._ended: set[str] = set()
        self._asks = fault != "" and sys.stdin is not None and sys.stdin.isatty()

    def run(self) -> None:
        begins = time.monotonic() + _QUIET
        if self._fault:
            tell(f"In {_QUIET} s the trouble begins: {self._fault.what}.")
        while True:
            with contextlib.suppress(queue.Empty):
                self._print(self._received.get(timeout=0.3))
            if self._fault and begins and time.monotonic() > begins:
                begins = 0
                self._begin()
            self._look_for_the_dead()
            if self._asks and not begins and select.select([sys.stdin], [], [], 0)[0]:
                self._asks = bool(sys.stdin.readline())
                if self._asks:
                    self._turn()

    def _begin(self) -> None:
        assert self._fault is not None
        self._trouble.enter_context(self._fault.run(self._stack))
        self._since = time.monotonic()
        self._awaited = set(self._fault.alerts)
        first, *others = self._fault.alerts
        also = f" (perhaps with {', '.join(others)})" if others else ""
        tell(f"FAULT={self._name}: {self._fault.what}.")
        tell(f"Expect {first}{also} in about {_span(self._fault.expected_after(self._stack))}.")
        if self._asks:
            tell("Enter mends it.")

    def _turn(self) -> None:
        """Enter: from trouble to mend, and back."""
        if self._since is None:
            self._begin()
            return
        self._trouble.close()
        self._since = None
        tell("Mended; the alert is resolved soon. Enter starts the trouble again.")

    def _print(self, notice: Notice) -> None:
        key = (notice.outbreak, notice.status)
        if (notice.outbreak, notice.status + notice.receiver) in self._told:
            return  # a reminder, or a message for another alert of the group
        self._told.add((notice.outbreak, notice.status + notice.receiver))
        if key in self._told:
            tell(f"          {notice.name}: also to the receiver `{notice.receiver}`")
            return
        self._told.add(key)
        if notice.status == "resolved":
            tell(f"resolved  {notice.name}")
            return
        tell(f"FIRING    {notice.name} ({notice.severity}, to the receiver `{notice.receiver}`): {notice.description}")
        if notice.name == "Watchdog":
            return
        say(f"                    what to do: {notice.runbook}")
        if notice.name in self._awaited and self._since is not None:
            self._awaited.discard(notice.name)
            tell(f"That was expected; it came {_span(time.monotonic() - self._since)} after the trouble began.")

    def _look_for_the_dead(self) -> None:
        for program in self._stack.programs:
            if program.name not in self._ended and program.has_ended():
                self._ended.add(program.name)
                tell(f"{program.complaint()}; its last lines:\n{program.last_words()}")


def _span(length: float) -> str:
    return f"{length:.0f} s" if length < 120 else f"{length / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
