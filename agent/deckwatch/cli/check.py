"""`deckwatch check`: every collector of every target once, and what a target lacks."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

from deckwatch.cli import arguments
from deckwatch.cli.table import table
from deckwatch.collection.registry import Registry
from deckwatch.collection.run import SeriesBudget, describe, run_once
from deckwatch.collection.targets import open_target
from deckwatch.exporter import Finding, Unreachable
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from deckwatch.collection.run import Snapshot
    from deckwatch.config import Config, TargetConfig
    from deckwatch.exporter import Exporter, Probe


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_config(parser)
    parser.add_argument(
        "--timeout", type=arguments.positive_seconds, default=10.0, metavar="SECONDS", help="for each collector (10)"
    )
    arguments.add_state_dir(parser)
    parser.set_defaults(command=_check, may_leave_threads=True)


def _check(options: argparse.Namespace) -> int:
    registry = Registry.installed()
    return check(arguments.load(options, registry), registry, options.timeout, sys.stdout, arguments.state(options))


class _Tried(NamedTuple):
    state: str
    took: str
    series: str
    detail: str


def check(config: Config, registry: Registry, timeout: float, out: TextIO, state: Path) -> int:
    """Print a table of what works and how long it took (seconds `timeout` each). 0 when all does, else 2."""
    rows: list[tuple[str, ...]] = []
    remedies: list[str] = []
    failed = False
    for target in config.targets:
        exporter = registry.get(target.exporter)
        untried: dict[str, int] = {}  # by group, whose target does not answer
        for probe in open_target(exporter, target, dict(config.thresholds)):
            if probe.group in untried:
                untried[probe.group] += 1
                continue
            tried = _try(probe, target.max_series or exporter.max_series, timeout)
            rows.append((probe.name, target.name or "-", *tried))
            failed = failed or tried.state == "failed"
            if probe.group and tried.detail.startswith(f"{Unreachable.__name__}:"):
                untried[probe.group] = 0
        if any(untried.values()):
            rows.append((f"{target.exporter}.*", target.name or "-", "failed", "", "",
                         f"{sum(untried.values())} more, not tried"))  # fmt: skip
        for finding in _findings(exporter, target):
            failed = failed or finding.state != "ok"
            rows.append((target.exporter, target.name or "-", finding.state, "", "", finding.what))
            if finding.remedy:
                remedies.append(f"{target.exporter} {target.name}: {finding.what}\n  {finding.remedy}\n")
    if config.logs is not None:
        from deckwatch.logs.checks import check_logs  # only where logs are shipped

        for what, finding in check_logs(config.logs, state):
            failed = failed or finding.state != "ok"
            rows.append((what, "-", finding.state, "", "", finding.what))
            if finding.remedy:
                remedies.append(f"{what}: {finding.what}\n  {finding.remedy}\n")
    out.write(f"config: {config.path or 'none found, the defaults'}\n")
    out.write(table(("COLLECTOR", "TARGET", "STATE", "TOOK", "SERIES", "DETAIL"), rows))
    if remedies:
        out.write("\nWhat is missing, and what mends it:\n" + "".join(remedies))
    return 2 if failed else 0


def _findings(exporter: Exporter, target: TargetConfig) -> list[Finding]:
    try:
        return list(exporter.check(target.settings))
    except Exception as failure:  # noqa: BLE001  a third party's check() must not take the whole table away
        return [Finding("failed", describe(failure))]


def _try(probe: Probe, max_series: int, timeout: float) -> _Tried:
    """One run in a thread of its own, which is left behind when it hangs."""
    done: list[Snapshot] = []
    thread = threading.Thread(
        target=lambda: done.append(run_once(probe, Encoder(probe.target), SeriesBudget(max_series))), daemon=True
    )
    began = time.perf_counter()
    thread.start()
    thread.join(timeout)
    if not done:
        return _Tried("failed", f"{time.perf_counter() - began:.1f} s", "", f"no answer within {timeout:g} s")
    snapshot = done[0]
    probe.close()
    took = f"{snapshot.duration * 1000:.1f} ms"
    if snapshot.error:
        return _Tried("failed", took, "", snapshot.error)
    if not snapshot.series:
        return _Tried("ok", took, "0", "nothing of this kind here")
    detail = f"{snapshot.dropped} series over the budget" if snapshot.dropped else ""
    return _Tried("ok", took, str(snapshot.series), detail)
