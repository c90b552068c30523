"""The command `python -m demo`, which must run in a checkout. See README.md."""

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
from .programs import DemoError, find_programs, temporary
from .stack import SCRAPE_INTERVAL, Stack, build
from .times import FACTOR
from .webhook import Notice, webhook

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds before the fault, so that Prometheus has some samples without it.
_FAULT_DELAY = 3 * SCRAPE_INTERVAL


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_with_time(text: str) -> None:
    say(f"{time.strftime('%H:%M:%S')}  {text}")


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
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # A shell that starts a program in the background makes it ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
    """Ignore further Ctrl-C during the shutdown, which takes a few seconds at most."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


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


class Watch:
    """The main loop: prints alerts, starts and fixes the fault, and reports programs that exit unexpectedly."""

    def __init__(self, stack: Stack, received: queue.SimpleQueue[Notice], fault: str) -> None:
        self._stack = stack
        self._received = received
        self._name = fault
        self._fault = FAULTS[fault] if fault else None
        self._active_fault = contextlib.ExitStack()
        self._since: float | None = None  # when the fault began, on the monotonic clock
        self._expected: set[str] = set()
        self._printed: set[tuple[str, str]] = set()
        self._ended: set[str] = set()
        self._is_interactive = fault != "" and sys.stdin is not None and sys.stdin.isatty()

    def run(self) -> None:
        begins = time.monotonic() + _FAULT_DELAY
        if self._fault:
            say_with_time(f"The fault starts in {_FAULT_DELAY} s: {self._fault.what}.")
        while True:
            with contextlib.suppress(queue.Empty):
                self._print(self._received.get(timeout=0.3))
            if self._fault and begins and time.monotonic() > begins:
                begins = 0
                self._begin()
            self._report_ended_programs()
            if self._is_interactive and not begins and select.select([sys.stdin], [], [], 0)[0]:
                self._is_interactive = bool(sys.stdin.readline())
                if self._is_interactive:
                    self._toggle()

    def _begin(self) -> None:
        assert self._fault is not None
        self._active_fault.enter_context(self._fault.run(self._stack))
        self._since = time.monotonic()
        self._expected = set(self._fault.alerts)
        first, *others = self._fault.alerts
        also = f" (perhaps with {', '.join(others)})" if others else ""
        say_with_time(f"FAULT={self._name}: {self._fault.what}.")
        say_with_time(f"Expect {first}{also} in about {_span(self._fault.expected_after(self._stack))}.")
        if self._is_interactive:
            say_with_time("Press Enter to fix the fault and resolve the alert.")

    def _toggle(self) -> None:
        """Fix the fault, or cause it again."""
        if self._since is None:
            self._begin()
            return
        self._active_fault.close()
        self._since = None
        say_with_time("Fixed. The alert will resolve soon. Press Enter to cause the fault again.")

    def _print(self, notice: Notice) -> None:
        key = (notice.occurrence, notice.status)
        if (notice.occurrence, notice.status + notice.receiver) in self._printed:
            return  # a repeated notification, or one for another alert of the group
        self._printed.add((notice.occurrence, notice.status + notice.receiver))
        if key in self._printed:
            say_with_time(f"          {notice.name}: also sent to the receiver `{notice.receiver}`")
            return
        self._printed.add(key)
        if notice.status == "resolved":
            say_with_time(f"resolved  {notice.name}")
            return
        say_with_time(
            f"FIRING    {notice.name} ({notice.severity}, receiver `{notice.receiver}`): {notice.description}"
        )
        if notice.name == "Watchdog":
            return
        say(f"                    runbook: {notice.runbook}")
        if notice.name in self._expected and self._since is not None:
            self._expected.discard(notice.name)
            say_with_time(f"This is the expected alert, {_span(time.monotonic() - self._since)} after the fault began.")

    def _report_ended_programs(self) -> None:
        for program in self._stack.programs:
            if program.name not in self._ended and program.has_ended():
                self._ended.add(program.name)
                say_with_time(f"{program.failure()}. The last lines of its output:\n{program.last_lines()}")


def _span(length: float) -> str:
    return f"{length:.0f} s" if length < 120 else f"{length / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
