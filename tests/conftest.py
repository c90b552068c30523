"""Settings for all tests, and what every run reports."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from server_versions import left_out

if TYPE_CHECKING:
    import pytest

# A busy machine is no reason to fail: neither for the time of one example nor for how long examples take to make.
settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")


def pytest_sessionfinish() -> None:
    if databases := sys.modules.get("databases"):
        databases.remove_what_was_made_once()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if missing := left_out():
        terminalreporter.write_line(f"Not installed, their tests were skipped: {', '.join(missing)}.", yellow=True)
