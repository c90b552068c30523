"""`deckwatch gate`: stop a build or deployment if alerts would have fired.

Exit codes: 0 nothing fired, 1 alerts fired, 2 wrong arguments or Prometheus cannot be queried, 3 there are no series
for some alerts, so nothing is known about them.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from deckwatch.cli import pack_arguments
from deckwatch.cli.table import table
from deckwatch.pack.gate import LONGEST_WINDOW, SEVERITIES, UnknownAlertError, evaluate
from deckwatch.pack.promql import seconds

if TYPE_CHECKING:
    from collections.abc import Collection

    from deckwatch.pack.gate import Firing, Unchecked, Verdict
    from deckwatch.pack.json_api import JsonApi


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prometheus", type=pack_arguments.url, required=True, metavar="URL", help="for example http://127.0.0.1:9090"
    )
    parser.add_argument(
        "--for",
        dest="window",
        type=_duration,
        default=600.0,
        metavar="DURATION",
        help="how far to look back (default 10m)",
    )
    parser.add_argument(
        "--alert", nargs="+", action="extend", default=[], metavar="NAME", help="check only these alerts"
    )
    parser.add_argument(
        "--severity",
        type=_severities,
        metavar="LIST",
        help="critical, warning or info, separated by commas (default critical,warning; with --alert: all)",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="do not fail if Prometheus has no series for the metrics of an alert",
    )
    parser.set_defaults(command=_gate)


def _duration(text: str) -> float:
    try:
        found = seconds(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None
    if not 1 <= found <= LONGEST_WINDOW:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 1s and 1d")
    return found


def _severities(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",")]
    for severity in found:
        if severity not in SEVERITIES:
            raise argparse.ArgumentTypeError(f"{severity!r} is not one of {', '.join(SEVERITIES)}")
    return found


def _gate(options: argparse.Namespace) -> int:
    prometheus = pack_arguments.prometheus(options.prometheus)
    try:
        return pack_arguments.with_api_errors(
            lambda: gate(
                prometheus, options.window, options.alert, options.severity, options.allow_missing, sys.stdout
            ),
            failed=2,
        )
    except UnknownAlertError as wrong:
        return pack_arguments.refuse(str(wrong))


def gate(
    prometheus: JsonApi,
    window: float,
    names: Collection[str],
    severities: Collection[str] | None,
    allow_missing: bool,
    out: TextIO,
) -> int:
    """Print the alerts that would have fired within the last `window` seconds, and those that could not be checked.

    Returns 1 if alerts fired; otherwise 3 if some could not be checked, unless `allow_missing`; otherwise 0. Raises
    UnknownAlertError and ApiError as `evaluate()` does.
    """
    verdict = evaluate(prometheus, window, names, severities)
    if verdict.firing:
        rows = [_row(found, verdict) for found in verdict.firing]
        out.write(table(("ALERT", "SEVERITY", "LABELS", "SINCE", "UNTIL", "VALUE"), rows))
    unchecked = () if allow_missing else verdict.unchecked
    if unchecked:
        out.write(table(("ALERT", "METRICS WITHOUT SERIES"), [_unchecked_row(found) for found in unchecked]))
    fired = len({found.alert.name for found in verdict.firing})
    period = _spoken(window)
    out.write(f"{fired or 'none'} of {_count(verdict.alerts)} fired in the last {period}\n")
    if not verdict.has_scraped:
        out.write(f"Prometheus scraped nothing in the last {period}. Check its targets.\n")
    elif verdict.unchecked:
        advice = "" if allow_missing else " Scrape them, choose alerts with --alert, or use --allow-missing."
        out.write(f"{_count(len(verdict.unchecked))} not checked: Prometheus has no series for the metrics.{advice}\n")
    if verdict.firing:
        return 1
    return 3 if unchecked or not verdict.has_scraped else 0


def _count(alerts: int) -> str:
    return f"{alerts} alert{'' if alerts == 1 else 's'}"


def _unchecked_row(found: Unchecked) -> tuple[str, ...]:
    return found.alert.name, ", ".join(found.metrics)


def _row(found: Firing, verdict: Verdict) -> tuple[str, ...]:
    labels = ",".join(f"{name}={value}" for name, value in sorted(found.labels.items()))
    until = "now" if verdict.now - found.until < 2 * verdict.step else _time(found.until)
    return found.alert.name, found.alert.severity, labels, _time(found.since), until, f"{float(found.value):.4g}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _spoken(duration: float) -> str:
    for unit, length in (("h", 3600), ("m", 60)):
        if duration >= length and duration % length == 0:
            return f"{duration / length:.0f}{unit}"
    return f"{duration:g}s"
