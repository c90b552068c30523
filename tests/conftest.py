"""Settings for all tests, and a report of the servers that are not installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from server_versions import left_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitmq_server import RabbitmqServer

# A busy host must not fail tests, so the time of examples and of their generation is not limited.
settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitmqServer]:
    """A RabbitMQ that the tests of a process share, because it starts slowly. Each test has its own virtual host."""
    from rabbitmq_server import rabbitmq_server  # most runs need no RabbitMQ

    with rabbitmq_server() as running:
        yield running


def pytest_sessionfinish() -> None:
    if databases := sys.modules.get("databases"):
        databases.remove_what_was_made_once()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if missing := left_out():
        terminalreporter.write_line(f"Not installed, their tests were skipped: {', '.join(missing)}.", yellow=True)
