"""Targets of the config, opened."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from deckwatch.collection.run import NamedCollector, missing_library
from deckwatch.exporter import Context, Scheduled, Target, Unreachable, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deckwatch.config import TargetConfig
    from deckwatch.exporter import Exporter, Samples


class OpenedTarget:
    """The collectors of one target, each with its full name. The target is closed once."""

    def __init__(self, collectors: tuple[NamedCollector, ...], close: Callable[[], None]) -> None:
        self.collectors = collectors
        self._close = close
        self._lock = threading.Lock()
        self._users = len(self.groups())

    def groups(self) -> dict[str, list[NamedCollector]]:
        """The collectors by group: those of one group never run at the same time."""
        found: dict[str, list[NamedCollector]] = {}
        for named in self.collectors:
            found.setdefault(named.group, []).append(named)
        return found

    def release(self) -> None:
        """End one group. The last one closes the target."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self._close()

    def close(self) -> None:
        """Close the target when its groups are not run by a scheduler."""
        self._close()


def open_target(exporter: Exporter[Any], config: TargetConfig, thresholds: Mapping[str, float]) -> OpenedTarget:
    """Open a target without the collectors that its config disables.

    Never raises. A missing client library makes it a target that cannot be reached; any other failure makes it a target
    with one collector that fails.
    """
    context = Context(config.name, thresholds, logging.getLogger(f"deckwatch.{config.exporter}"))
    install = install_name(exporter)
    try:
        target = exporter.open(config.settings, context)
        unknown = [name for name in target.collectors if name not in (exporter.name, *exporter.collectors)]
        if unknown:
            target.close()
            raise TypeError(f"Exporter(collectors=...) of {exporter.name} lacks {', '.join(unknown)}")
    except ModuleNotFoundError as missing:
        why = missing_library(missing, install) if install else describe(missing)
        target = Target({exporter.name: _Failing(Unreachable(why))})
    except Exception as failure:  # noqa: BLE001  the boundary of a target: its exporter must not stop the others
        target = Target({exporter.name: _Failing(failure)})
    found: list[NamedCollector] = []
    for name, item in target.collectors.items():
        scheduled = item if isinstance(item, Scheduled) else Scheduled(item)
        if name not in config.disable:
            found.append(
                NamedCollector(
                    name=name if name == exporter.name else f"{exporter.name}.{name}",
                    collector=scheduled.collector,
                    target=config.name,
                    group=scheduled.group,
                    interval=scheduled.interval,
                    max_series=scheduled.max_series,
                    up=exporter.up if not any(it.up for it in found) and not scheduled.group else None,
                    install=install,
                )
            )
    return OpenedTarget(tuple(found), target.close)


def install_name(exporter: Exporter[Any]) -> str:
    """What pip installs the exporter's client library with; empty when it has none."""
    return f"deckwatch[{exporter.extra}]" if exporter.extra.isalnum() else exporter.extra


class _Failing:
    """Stands for the collectors of a target that could not be opened."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    def collect(self) -> Samples:
        raise self._failure
