"""Targets of the config, opened."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deckwatch.collection.run import NamedCollector, missing_library
from deckwatch.exporter import BoundedCall, Context, Scheduled, Target, Unreachable, describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.config import TargetConfig
    from deckwatch.exporter import Exporter, Samples


_MAX_BLOCKED = 10.0  # seconds that open() and close() may take, which must not block


class OpenedTarget:
    """The collectors of one target, each with its full name. The target is closed once."""

    def __init__(self, name: str, collectors: tuple[NamedCollector, ...], close: Callable[[], None]) -> None:
        self.collectors = collectors
        self.closed = threading.Event()
        self._name = name
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
        """End one group. The last one closes the target, without waiting."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
        self.close(0.0)

    def close(self, timeout: float = _MAX_BLOCKED) -> None:
        """Close the target in a separate thread, since closing can hang, and wait at most `timeout` seconds for it.

        A failure is logged.
        """
        threading.Thread(target=self._close_now, name="close", daemon=True).start()
        self.closed.wait(timeout)

    def _close_now(self) -> None:
        try:
            self._close()
        except BaseException as failure:  # noqa: BLE001  the boundary of a target: its exporter must not stop others
            logging.getLogger("deckwatch.collector").warning("%s: close() failed: %s", self._name, describe(failure))
        finally:
            self.closed.set()


def open_target(exporter: Exporter[Any], config: TargetConfig, thresholds: Mapping[str, float]) -> OpenedTarget:
    """Open a target without the collectors that its config disables.

    Never raises. A missing client library makes it a target that cannot be reached; any other failure makes it a target
    with one collector that fails.
    """
    label = f'{exporter.name} "{config.name}"' if config.name else exporter.name
    context = Context(config.name, thresholds, logging.getLogger(f"deckwatch.{config.exporter}"))
    install = install_name(exporter)
    try:
        target = BoundedCall(lambda: exporter.open(config.settings, context), "open").result(_MAX_BLOCKED)
        return OpenedTarget(label, _named(exporter, config, target, install), target.close)
    except ModuleNotFoundError as missing:
        failure: BaseException = Unreachable(missing_library(missing, install) if install else describe(missing))
    except TimeoutError:
        failure = TimeoutError(f"open() did not return within {_MAX_BLOCKED:g} s")
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # noqa: BLE001  the boundary of a target: its exporter must not stop the others
        failure = raised
    failing = Target({exporter.name: _Failing(failure)})
    return OpenedTarget(label, _named(exporter, config, failing, install), failing.close)


def _named(exporter: Exporter[Any], config: TargetConfig, target: Target, install: str) -> tuple[NamedCollector, ...]:
    """The collectors of a target. Raises TypeError and ValueError if the exporter breaks its contract."""
    if not isinstance(target, Target) or not isinstance(target.collectors, Mapping) or not target.collectors:
        raise TypeError(f"open() of {exporter.name} must return a Target with collectors by name")
    unknown = [name for name in target.collectors if name not in (exporter.name, *exporter.collectors)]
    if unknown:
        raise TypeError(f"Exporter(collectors=...) of {exporter.name} lacks {', '.join(unknown)}")
    found: list[NamedCollector] = []
    for name, item in target.collectors.items():
        scheduled = item if isinstance(item, Scheduled) else Scheduled(item)
        if not callable(getattr(scheduled.collector, "collect", None)):
            raise TypeError(f"collector {name} of {exporter.name} has no collect()")
        interval = scheduled.interval
        if interval is not None and (not isinstance(interval, (int, float)) or not interval > 0):
            raise ValueError(f"interval of collector {name} of {exporter.name} is {interval!r}, not seconds above 0")
        if name not in config.disable:
            found.append(
                NamedCollector(
                    name=name if name == exporter.name else f"{exporter.name}.{name}",
                    collector=scheduled.collector,
                    target=config.name,
                    group=scheduled.group,
                    interval=interval,
                    max_series=scheduled.max_series,
                    up=exporter.up if not any(it.up for it in found) and not scheduled.group else None,
                    install=install,
                )
            )
    return tuple(found)


def install_name(exporter: Exporter[Any]) -> str:
    """What pip installs the exporter's client library with; empty when it has none."""
    return f"deckwatch[{exporter.extra}]" if exporter.extra.isalnum() else exporter.extra


class _Failing:
    """Stands for the collectors of a target that could not be opened."""

    def __init__(self, failure: BaseException) -> None:
        self._failure = failure

    def collect(self) -> Samples:
        raise self._failure.with_traceback(None)  # each raise would lengthen the traceback
