"""What the terminal shows while the demo or an example runs: alerts, the fault, and programs that end."""

from __future__ import annotations

import contextlib
import queue
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .times import SCRAPE_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from .programs import Program
    from .webhook import Notice

#: Seconds before the fault, so that Prometheus has some samples without it.
_FAULT_DELAY = 3 * SCRAPE_INTERVAL


@dataclass(frozen=True)
class Caused:
    """A fault to cause. Entering what `run` returns causes it, leaving fixes it.

    `alerts` lists the expected alert first, which is expected after so many seconds.
    """

    name: str
    what: str
    alerts: tuple[str, ...]
    expected_after: float
    run: Callable[[], AbstractContextManager[None]]


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_with_time(text: str) -> None:
    say(f"{time.strftime('%H:%M:%S')}  {text}")


def no_second_interrupt() -> None:
    """Ignore further Ctrl-C during the shutdown, which takes a few seconds at most."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def interrupt_on_signals() -> None:
    """Let TERM, HUP and INT raise KeyboardInterrupt.

    A shell that starts a program in the background makes it ignore SIGINT.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


class Watch:
    """The main loop: prints alerts, starts and fixes the fault, and reports programs that exit unexpectedly."""

    def __init__(self, programs: Sequence[Program], received: queue.SimpleQueue[Notice], fault: Caused | None) -> None:
        self._programs = programs
        self._received = received
        self._fault = fault
        self._active_fault = contextlib.ExitStack()
        self._since: float | None = None  # when the fault began, on the monotonic clock
        self._expected: set[str] = set()
        self._printed: set[tuple[str, str]] = set()
        self._ended: set[str] = set()
        self._is_interactive = fault is not None and sys.stdin is not None and sys.stdin.isatty()

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
        self._active_fault.enter_context(self._fault.run())
        self._since = time.monotonic()
        self._expected = set(self._fault.alerts)
        first, *others = self._fault.alerts
        also = f" (perhaps with {', '.join(others)})" if others else ""
        say_with_time(f"FAULT={self._fault.name}: {self._fault.what}.")
        say_with_time(f"Expect {first}{also} in about {_span(self._fault.expected_after)}.")
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
        for program in self._programs:
            if program.name not in self._ended and program.has_ended():
                self._ended.add(program.name)
                say_with_time(f"{program.failure()}. The last lines of its output:\n{program.last_lines()}")


def _span(length: float) -> str:
    return f"{length:.0f} s" if length < 120 else f"{length / 60:.0f} min"
