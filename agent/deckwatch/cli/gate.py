"""`deckwatch gate`: for builds and deployments, exit 1 if an alert would have fired."""

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

    from deckwatch.pack.gate import Firing, Verdict
    from deckwatch.pack.json_api import JsonApi


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prometheus", type=pack_arguments.url, required=True, metavar="URL", help="http://127.0.0.1:9090"
    )
    parser.add_argument(
        "--for", dest="window", type=_duration, default=600.0, metavar="DURATION", help="how far to look back (10m)"
    )
    parser.add_argument("--alert", nargs="+", action="extend", default=[], metavar="NAME", help="these alerts only")
    parser.add_argument(
        "--severity",
        type=_severities,
        metavar="LIST",
        help="critical, warning or info, with commas (critical,warning; with --alert all)",
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
            raise argparse.ArgumentTypeError(f"{severity!r} is none of {', '.join(SEVERITIES)}")
    return found


def _gate(options: argparse.Namespace) -> int:
    prometheus = pack_arguments.prometheus(options.prometheus)
    try:
        return pack_arguments.with_api_errors(
            lambda: gate(prometheus, options.window, options.alert, options.severity, sys.stdout)
        )
    except UnknownAlertError as wrong:
        return pack_arguments.refuse(str(wrong))


def gate(
    prometheus: JsonApi, window: float, names: Collection[str], severities: Collection[str] | None, out: TextIO
) -> int:
    """Print what would have fired within the last `window` seconds. 1 when anything did, else 0.

    Raises UnknownAlertError and ApiError as `evaluate()` does.
    """
    verdict = evaluate(prometheus, window, names, severities)
    if verdict.firing:
        rows = [_row(found, verdict) for found in verdict.firing]
        out.write(table(("ALERT", "SEVERITY", "LABELS", "SINCE", "UNTIL", "VALUE"), rows))
    fired = len({found.alert.name for found in verdict.firing})
    out.write(f"{fired or 'none'} of {verdict.alerts} alerts fired in the last {_spoken(window)}\n")
    return 1 if verdict.firing else 0


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
