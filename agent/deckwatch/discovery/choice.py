"""What was found on a machine, part by part, so that its user can leave parts out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deckwatch.discovery.machine import Machine


def parts(machine: Machine) -> Iterator[tuple[str, str, object]]:
    """Each part: its text for the user, the field of the machine that holds it, and its value there."""
    for server in machine.servers:
        yield f"{server.kind} at {server.socket or f'{server.host}:{server.port}'}", "servers", server
    for group in machine.process_groups:
        yield f"{group[0]} processes", "process_groups", group
    for name in machine.variables:
        yield f"${name}", "variables", name
    for pattern in machine.log_patterns:
        yield f"logs in {pattern}", "log_patterns", pattern
    for logs in machine.container_logs:
        yield f"logs in {logs[0]}", "container_logs", logs
    for config in machine.replaced:
        yield f"{config[1]}'s config {config[0]}", "replaced", config


def chosen(machine: Machine, is_wanted: Callable[[str], bool]) -> Machine:
    """The machine without the parts that are not wanted."""
    for text, field, part in parts(machine):
        if not is_wanted(text):
            kept = tuple(one for one in getattr(machine, field) if one != part)
            machine = replace(machine, **{field: kept})
    return machine
