"""`deckwatch alerts`: list, export or check the Prometheus alert rules."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from deckwatch.cli import arguments, pack_arguments
from deckwatch.cli.catalogue import catalogue
from deckwatch.cli.table import table
from deckwatch.collection.registry import Registry
from deckwatch.pack.alerts import Rules, gaps, problems, shipped_rules
from deckwatch.pack.slos import SLO_FILE, slo_rules

if TYPE_CHECKING:
    import argparse

    from deckwatch.pack.json_api import JsonApi


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    listed = commands.add_parser("list", help="list the alerts")
    listed.set_defaults(command=_list)
    exported = pack_arguments.add_export(
        commands,
        "write the rules, those of the config's SLOs, the runbooks and an Alertmanager config to a folder",
    )
    exported.set_defaults(command=_export)
    checked = commands.add_parser("check", help="check the rules against the metrics, and whether they have data")
    checked.add_argument(
        "--prometheus", type=pack_arguments.url, metavar="URL", help="also report metrics without data there"
    )
    checked.add_argument("--strict", action="store_true", help="fail if an alert has no data")
    checked.set_defaults(command=_check)


def _list(_options: argparse.Namespace) -> int:
    def show() -> int:
        rows = [
            (alert.name, alert.severity, f"{alert.wait / 60:g}m", alert.annotations.get("summary", ""))
            for alert in shipped_rules().alerts
        ]
        sys.stdout.write(table(("ALERT", "SEVERITY", "FOR", "SUMMARY"), rows))
        return 0

    return pack_arguments.with_api_errors(show)


def _export(options: argparse.Namespace) -> int:
    slos = arguments.load(options, Registry.installed(), allow_missing_secrets=True).settings.slos
    return pack_arguments.run_export("alerts", options, {SLO_FILE: slo_rules(slos)} if slos else {})


def _check(options: argparse.Namespace) -> int:
    if options.strict and not options.prometheus:
        return pack_arguments.refuse("--strict needs --prometheus. Add --prometheus URL.")
    prometheus = pack_arguments.prometheus(options.prometheus) if options.prometheus else None
    return pack_arguments.with_api_errors(lambda: check(Registry.installed(), prometheus, options.strict, sys.stdout))


def check(registry: Registry, prometheus: JsonApi | None, strict: bool, out: TextIO) -> int:
    """Check the rules and print what was found. Returns 3 if something is wrong, otherwise 0.

    With a Prometheus, also print the metrics that it has no data for. That is not a fault by itself: a host without
    systemd has no units, a primary no lag. It is one if `strict`, or if there is no data for any rule. Raises ApiError.
    """
    rules = shipped_rules()
    found = problems(rules, catalogue(registry))
    for problem in found:
        out.write(problem + "\n")
    out.write(
        f"{len(rules.alerts)} alerts and {len(rules.recorded)} recorded series: "
        f"{_problems(len(found)) if found else 'all metrics are in the catalogue, all links work'}\n"
    )
    silent = _print_gaps(rules, prometheus, out) if prometheus else 0
    return 3 if found or silent == len(rules.alerts) or (strict and silent) else 0


def _problems(count: int) -> str:
    return f"{count} problem{'' if count == 1 else 's'}"


def _print_gaps(rules: Rules, prometheus: JsonApi, out: TextIO) -> int:
    """Print the alerts that read metrics without data; return how many have no data at all."""
    found, silent = gaps(rules, prometheus)
    if found:
        rows = [(gap.alert, "none" if gap.is_silent else "some", ", ".join(gap.metrics)) for gap in found]
        out.write("\n" + table(("ALERT", "DATA", "METRICS WITHOUT DATA"), rows))
    out.write(f"{len(rules.alerts) - silent} of {len(rules.alerts)} alerts have data in Prometheus\n")
    return silent
