"""`deckwatch check`: every collector of every target once, and what a target lacks."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from deckwatch.cli import arguments
from deckwatch.cli.table import table
from deckwatch.collection.registry import Registry
from deckwatch.collection.run import SeriesBudget, run_once
from deckwatch.collection.targets import open_target
from deckwatch.exporter import BoundedCall, Finding, describe
from deckwatch.logs.printable import printable
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from deckwatch.collection.run import NamedCollector
    from deckwatch.config import Config, TargetConfig
    from deckwatch.exporter import Exporter


def configure(parser: argparse.ArgumentParser) -> None:
    arguments.add_config(parser)
    parser.add_argument(
        "--timeout",
        type=arguments.positive_seconds,
        default=10.0,
        metavar="SECONDS",
        help="limit for each collector (default 10)",
    )
    parser.add_argument(
        "--allow-missing-secrets",
        action="store_true",
        help="accept secret files that do not exist yet; their targets are not tried",
    )
    arguments.add_state_dir(parser)
    parser.set_defaults(command=_check, may_leave_threads=True)


def _check(options: argparse.Namespace) -> int:
    registry = Registry.installed()
    config = arguments.load_to_run(options, registry, allow_missing_secrets=options.allow_missing_secrets)
    return check(config, registry, options.timeout, sys.stdout, arguments.state(options))


class _Tried(NamedTuple):
    state: str
    took: str
    series: str
    detail: str


def check(config: Config, registry: Registry, timeout: float, out: TextIO, state: Path) -> int:
    """Print a table of what works and how long it took (seconds `timeout` each). 0 when all does, else 2."""
    rows: list[tuple[str, ...]] = []
    findings: list[tuple[str, str, Finding]] = []
    for target in config.targets:
        exporter = registry.get(target.exporter)
        if target.lacks:
            missing = ", ".join(target.lacks)
            rows.append((target.exporter, target.name or "-", "not run", "", "", f"{missing} does not exist yet"))
            continue
        opened = open_target(exporter, target, dict(config.thresholds))
        budget = SeriesBudget(target.max_series or exporter.max_series)
        for collectors in opened.groups().values():
            rows += _try_all(collectors, budget, timeout)
        opened.close()
        findings += [(target.exporter, target.name, finding) for finding in _findings(exporter, target, timeout)]
    if config.settings.web_config is not None:
        from deckwatch.http.web_config import WebConfigFile  # only where there is one

        problems = WebConfigFile(config.settings.web_config).problems()  # raises what `run` would refuse to start with
        found = [Finding("failed", problem) for problem in problems] or [Finding("ok", config.settings.web_config)]
        findings += [("web_config", "", finding) for finding in found]
    if config.logs is not None:
        from deckwatch.logs.checks import check_logs  # only where logs are shipped

        findings += [(what, "", finding) for what, finding in check_logs(config.logs, state)]
    rows += [(what, name or "-", finding.state, "", "", finding.what) for what, name, finding in findings]
    out.write(f"config: {config.path or 'none found, the defaults'}\n")
    out.write(table(("COLLECTOR", "TARGET", "STATE", "TOOK", "SERIES", "DETAIL"), rows))
    remedies = [
        printable(f"{f'{what} {name}'.strip()}: {finding.what}\n  {finding.remedy}\n")
        for what, name, finding in findings
        if finding.remedy
    ]
    if remedies:
        out.write("\nWhat is missing, and how to fix it:\n" + "".join(remedies))
    return 2 if any(row[2] not in ("ok", "not run") for row in rows) else 0


def _try_all(collectors: list[NamedCollector], budget: SeriesBudget, timeout: float) -> list[tuple[str, ...]]:
    """A row for each collector of one connection; one for all that are not run because the target is unreachable."""
    rows: list[tuple[str, ...]] = []
    for number, named in enumerate(collectors, 1):
        tried, is_unreachable = _try(named, budget, timeout)
        rows.append((named.name, named.target or "-", *tried))
        if is_unreachable and (left := len(collectors) - number):
            exporter = named.name.partition(".")[0]
            rows.append(
                (
                    f"{exporter}.*",
                    named.target or "-",
                    "not run",
                    "",
                    "",
                    f"{left} more collector{'s' if left > 1 else ''}",
                )
            )
            break
    return rows


def _findings(exporter: Exporter[Any], target: TargetConfig, timeout: float) -> list[Finding]:
    check = BoundedCall(lambda: list(exporter.check(target.settings)), "check")
    try:
        return check.result(timeout)
    except Exception as failure:  # noqa: BLE001  a third party's check() must not take the whole table away
        return [Finding("failed", describe(failure))]


def _try(named: NamedCollector, budget: SeriesBudget, timeout: float) -> tuple[_Tried, bool]:
    """One run, and whether it found the target unreachable."""
    began = time.perf_counter()
    run = BoundedCall(lambda: run_once(named, Encoder(named.target), budget), "check")
    try:
        snapshot = run.result(timeout)
    except TimeoutError as hung:
        return _Tried("failed", f"{time.perf_counter() - began:.1f} s", "", str(hung)), False
    took = f"{snapshot.duration * 1000:.1f} ms"
    if snapshot.error:
        return _Tried("failed", took, "", snapshot.error), snapshot.is_unreachable
    if not snapshot.series:
        return _Tried("ok", took, "0", "not available on this target"), False
    details = [f"{snapshot.dropped} series over the limit: increase max_series"] if snapshot.dropped else []
    details += [f"cannot parse {it.what}: {it.text[:60]!r}" for it in snapshot.malformed[:3]]
    state = "warning" if snapshot.dropped else "ok"
    return _Tried(state, took, str(snapshot.series), "; ".join(details)), False
