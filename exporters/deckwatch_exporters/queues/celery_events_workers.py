"""The workers that send heartbeats. Bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WORKERS = 1000


@dataclass(slots=True)
class _Worker:
    label: str
    heard: float  # on the stopwatch
    is_online: bool
    active: float | None


class Workers:
    """The workers of one target by name. `ignored` counts the events of workers beyond MAX_WORKERS.

    `timeout` and `purge_after` are seconds without a heartbeat until a worker is down, and forgotten.
    """

    def __init__(self, timeout: float, purge_after: float) -> None:
        self._timeout = timeout
        self._purge_after = purge_after
        self._workers: dict[str, _Worker] = {}
        self.ignored = 0

    def heard(self, name: str, label: str, is_online: bool, active: float | None, now: float) -> None:
        if name in self._workers or len(self._workers) < MAX_WORKERS:
            self._workers[name] = _Worker(label, now, is_online, active)
        else:
            self.ignored += 1

    def renew(self, now: float) -> None:
        """Give every worker its time again."""
        for worker in self._workers.values():
            worker.heard = now

    def purge(self, now: float, gone: Callable[[str], None]) -> None:
        """Forget workers that were not heard for long. `gone` is called with labels that have no workers any more."""
        kept = {name: worker for name, worker in self._workers.items() if now - worker.heard < self._purge_after}
        if len(kept) == len(self._workers):
            return
        labels = {worker.label for worker in kept.values()}
        lost = {worker.label for worker in self._workers.values()} - labels
        self._workers = kept
        for label in lost:
            gone(label)

    def has(self, label: str) -> bool:
        return any(worker.label == label for worker in self._workers.values())

    def by_label(self, now: float) -> dict[str, tuple[bool, float | None]]:
        """Whether a worker is up, and the tasks that it executes. Workers of one label are added up."""
        found: dict[str, tuple[bool, float | None]] = {}
        for worker in self._workers.values():
            is_up = worker.is_online and now - worker.heard < self._timeout
            active = worker.active if is_up else 0.0
            was_up, other = found.get(worker.label, (False, None))
            total = other if active is None else active + (other or 0.0)
            found[worker.label] = (was_up or is_up, total)
        return found
