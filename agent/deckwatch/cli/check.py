"""`deckwatch check`: every collector of every target once, and what a target lacks."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from deckwatch.cli import arguments
from deckwatch.cli.progress import Progress
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
    parser.add_argument(
        "--production",
        action="store_true",
        help="also check what people rely on: TLS, authentication, secrets, retention, alert receivers, spool, backups",
    )
    parser.add_argument("--format", choices=["table", "json"], default="table")
    arguments.add_state_dir(parser)
    parser.set_defaults(command=_check, may_leave_threads=True)


def _check(options: argparse.Namespace) -> int:
    registry = Registry.installed()
    config = arguments.load_to_run(options, registry, allow_missing_secrets=options.allow_missing_secrets)
    return check(
        config,
        registry,
        options.timeout,
        sys.stdout,
        arguments.state(options),
        as_json=options.format == "json",
        production=options.production,
    )


class Result(NamedTuple):
    """What was found of a collector or of something else.

    `state` is `ok`, `warning`, `missing`, `failed`, `not run` or `unknown`.

    `seconds` and `series` are None where nothing ran. `remedy` is the statement that provides what is missing.
    """

    collector: str
    target: str
    state: str
    seconds: float | None = None
    series: int | None = None
    detail: str = ""
    remedy: str = ""


def check(
    config: Config,
    registry: Registry,
    timeout: float,
    out: TextIO,
    state: Path,
    as_json: bool = False,
    production: bool = False,
) -> int:
    """Print what works and how long it took (seconds `timeout` each). 0 when all does, else 2."""
    results = _results(config, registry, timeout, state)
    if production:
        from deckwatch.cli.production import production_points  # asks Prometheus and Alertmanager

        results += [
            Result(point.subject, "", point.state, detail=point.detail, remedy=point.remedy)
            for point in production_points(config, state, timeout)
        ]
    out.write(_json(config, results) if as_json else _text(config, results))
    return 2 if any(result.state not in ("ok", "not run", "unknown") for result in results) else 0


def _results(config: Config, registry: Registry, timeout: float, state: Path) -> list[Result]:
    """The results of all collectors, then what else was found."""
    results: list[Result] = []
    findings: list[tuple[str, str, Finding]] = []
    progress = Progress(len(config.targets), "targets checked")
    for number, target in enumerate(config.targets):
        progress.show(number)
        exporter = registry.get(target.exporter)
        if target.lacks:
            missing = ", ".join(target.lacks)
            results.append(Result(target.exporter, target.name, "not run", detail=f"{missing} does not exist yet"))
            continue
        opened = open_target(exporter, target, dict(config.thresholds))
        budget = SeriesBudget(target.max_series or exporter.max_series)
        for collectors in opened.groups().values():
            results += _try_all(collectors, budget, timeout)
        opened.close()
        findings += [(target.exporter, target.name, finding) for finding in _findings(exporter, target, timeout)]
    progress.end()
    if config.settings.web_config is not None:
        from deckwatch.http.web_config import WebConfigFile  # only where there is one

        problems = WebConfigFile(config.settings.web_config).problems()  # raises what `run` would refuse to start with
        found = [Finding("failed", problem) for problem in problems] or [Finding("ok", config.settings.web_config)]
        findings += [("web_config", "", finding) for finding in found]
    if config.logs is not None:
        from deckwatch.logs.checks import check_logs  # only where logs are shipped

        findings += [(what, "", finding) for what, finding in check_logs(config.logs, state)]
    if config.settings.remote_write:
        from deckwatch.remote_write.service import check_remote_write  # only where there is a receiver

        findings += [("remote_write", name, found) for name, found in check_remote_write(config.settings.remote_write)]
    return results + [
        Result(what, name, finding.state, detail=finding.what, remedy=finding.remedy)
        for what, name, finding in findings
    ]


def _json(config: Config, results: list[Result]) -> str:
    """An object with the path of the config (null for the defaults) and the results."""
    content = {
        "config": str(config.path) if config.path else None,
        "results": [result._asdict() for result in results],
    }
    return json.dumps(content, indent=2) + "\n"


def _text(config: Config, results: list[Result]) -> str:
    """A table, and below it the remedies."""
    rows = [
        (
            it.collector,
            it.target or "-",
            it.state,
            "" if it.seconds is None else f"{it.seconds * 1000:.1f} ms",
            "" if it.series is None else str(it.series),
            it.detail,
        )
        for it in results
    ]
    text = f"config: {config.path or 'none found, the defaults'}\n"
    text += table(("COLLECTOR", "TARGET", "STATE", "TOOK", "SERIES", "DETAIL"), rows)
    remedies = [
        printable(f"{f'{it.collector} {it.target}'.strip()}: {it.detail}\n  {it.remedy}\n")
        for it in results
        if it.remedy
    ]
    if remedies:
        text += "\nWhat is missing, and how to fix it:\n" + "".join(remedies)
    return text


def _try_all(collectors: list[NamedCollector], budget: SeriesBudget, timeout: float) -> list[Result]:
    """The result of each collector of one connection; one for all that are not run if the target is unreachable."""
    results = []
    for number, named in enumerate(collectors, 1):
        result, is_unreachable = _try(named, budget, timeout)
        results.append(result)
        if is_unreachable and (left := len(collectors) - number):
            exporter = named.name.partition(".")[0]
            more = f"{left} more collector{'s' if left > 1 else ''}"
            results.append(Result(f"{exporter}.*", named.target, "not run", detail=more))
            break
    return results


def _findings(exporter: Exporter[Any], target: TargetConfig, timeout: float) -> list[Finding]:
    check = BoundedCall(lambda: list(exporter.check(target.settings)), "check")
    try:
        return check.result(timeout)
    except Exception as failure:  # noqa: BLE001  a third party's check() must not take the whole table away
        return [Finding("failed", describe(failure))]


def _try(named: NamedCollector, budget: SeriesBudget, timeout: float) -> tuple[Result, bool]:
    """One run, and whether it found the target unreachable."""
    began = time.perf_counter()
    run = BoundedCall(lambda: run_once(named, Encoder(), budget), "check")
    result = Result(named.name, named.target, "ok")
    try:
        snapshot = run.result(timeout)
    except TimeoutError as hung:
        return result._replace(state="failed", seconds=time.perf_counter() - began, detail=str(hung)), False
    result = result._replace(seconds=snapshot.duration)
    if snapshot.error:
        # The exporter's own check() reports the remedy, with all others.
        return result._replace(state="failed", detail=snapshot.error), snapshot.is_unreachable
    if snapshot.failed:
        return result._replace(state="failed", series=snapshot.series, detail=snapshot.failed), False
    if not snapshot.series:
        return result._replace(series=0, detail="not available on this target"), False
    details = [lack.what for lack in snapshot.lacks]
    details += [f"{it.what} is {it.text[:60]!r}" for it in snapshot.malformed[:3]]
    state = "warning" if snapshot.lacks else "ok"
    return result._replace(state=state, series=snapshot.series, detail="; ".join(details)), False
