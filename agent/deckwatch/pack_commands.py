"""The commands about what ships with the metrics: `deckwatch dashboards`, `alerts` and `gate`.

Their exit codes are those of cli.py: 1 it failed or found something, 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# What speaks HTTP and reads YAML is loaded by the commands that need it: the agent does not.
from deckwatch.pack import PARTS, PackError

if TYPE_CHECKING:
    from deckwatch.json_api import JsonApi

#: A token is far shorter; what is longer is the wrong file.
_MAX_TOKEN = 4096
_PROMETHEUS_TIMEOUT = 30.0


def add_pack_commands(commands: Any) -> None:
    """Add the parsers to the `deckwatch` command's subparsers."""
    dashboards = commands.add_parser("dashboards", help="the Grafana dashboards: list, export, push")
    about_dashboards = dashboards.add_subparsers(metavar="COMMAND", required=True)
    listed = about_dashboards.add_parser("list", help="list the dashboards")
    listed.set_defaults(command=_dashboards_list)
    _add_export(about_dashboards, "dashboards", "write the dashboards' JSON into a folder")
    push = about_dashboards.add_parser("push", help="bring the dashboards into a Grafana, but keep what users changed")
    push.add_argument("--grafana", type=_url, required=True, metavar="URL", help="http://127.0.0.1:3000")
    push.add_argument(
        "--token-file", required=True, metavar="FILE", help="with the token of a service account that may edit"
    )
    push.add_argument("--folder", metavar="NAME", help="for dashboards that are new (else the top level)")
    push.add_argument("--force", action="store_true", help="overwrite what users changed, and newer versions")
    push.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    push.set_defaults(command=_dashboards_push)

    alerts = commands.add_parser("alerts", help="the Prometheus alert rules: list, export, check")
    about_alerts = alerts.add_subparsers(metavar="COMMAND", required=True)
    listed = about_alerts.add_parser("list", help="list the alerts")
    listed.set_defaults(command=_alerts_list)
    _add_export(about_alerts, "alerts", "write rules, runbooks and Alertmanager's config into a folder")
    check = about_alerts.add_parser("check", help="do the rules fit the metrics, and which have data")
    check.add_argument("--prometheus", type=_url, metavar="URL", help="also tell which metrics have no data there")
    check.add_argument("--strict", action="store_true", help="an alert without any data is a fault, too")
    check.set_defaults(command=_alerts_check)

    gate = commands.add_parser("gate", help="exit 1 if an alert would have fired within the last minutes")
    gate.add_argument("--prometheus", type=_url, required=True, metavar="URL", help="http://127.0.0.1:9090")
    gate.add_argument(
        "--for", dest="window", type=_duration, default=600.0, metavar="DURATION", help="how far to look back (10m)"
    )
    gate.add_argument("--alert", nargs="+", action="extend", default=[], metavar="NAME", help="these alerts only")
    gate.add_argument(
        "--severity",
        type=_severities,
        metavar="LIST",
        help="critical, warning or info, with commas (critical,warning; with --alert all)",
    )
    gate.set_defaults(command=_gate)


def _add_export(commands: Any, part: str, help: str) -> None:
    export = commands.add_parser("export", help=help)
    export.add_argument("folder", metavar="DIR", help="is made if it is not there")
    export.add_argument("--force", action="store_true", help="overwrite files that were changed")
    export.set_defaults(command=_export, part=part)
    assert part in PARTS


def _url(text: str) -> str:
    from deckwatch.json_api import JsonApi

    try:
        JsonApi("", text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None  # without the text: it may have a password
    return text


def _duration(text: str) -> float:
    from deckwatch.gate import LONGEST_WINDOW
    from deckwatch.promql import seconds

    try:
        found = seconds(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None
    if not 1 <= found <= LONGEST_WINDOW:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 1s and 1d")
    return found


def _severities(text: str) -> list[str]:
    known = ("critical", "warning", "info")
    found = [part.strip() for part in text.split(",")]
    for severity in found:
        if severity not in known:
            raise argparse.ArgumentTypeError(f"{severity!r} is none of {', '.join(known)}")
    return found


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201  this is the command line
    return 2


def _with_api_errors(ask: Callable[[], int]) -> int:
    from deckwatch.json_api import ApiError

    try:
        return ask()
    except (ApiError, PackError) as failure:
        sys.stdout.flush()
        print(failure, file=sys.stderr)  # noqa: T201  this is the command line
        return 1


def _prometheus(url: str) -> JsonApi:
    from deckwatch.json_api import JsonApi

    return JsonApi("Prometheus", url, timeout=_PROMETHEUS_TIMEOUT)


def _dashboards_list(_options: argparse.Namespace) -> int:
    from deckwatch.pack_dashboards import list_dashboards

    return _with_api_errors(lambda: list_dashboards(sys.stdout))


def _alerts_list(_options: argparse.Namespace) -> int:
    from deckwatch.pack_alerts import list_alerts

    return _with_api_errors(lambda: list_alerts(sys.stdout))


def _export(options: argparse.Namespace) -> int:
    from deckwatch.pack_export import export

    return _with_api_errors(lambda: export(options.part, Path(options.folder), options.force, sys.stdout))


def _dashboards_push(options: argparse.Namespace) -> int:
    from deckwatch.json_api import JsonApi
    from deckwatch.pack_dashboards import push

    if options.folder is not None and not options.folder.strip():
        return _refuse("--folder: expected the name of a folder")
    try:
        with open(options.token_file, "rb") as file:
            token = file.read(_MAX_TOKEN + 1).decode("ascii").strip()
    except OSError as failure:
        return _refuse(f"{options.token_file}: {failure.strerror}")
    except UnicodeDecodeError:
        token = ""
    if not token or len(token) > _MAX_TOKEN or not all("!" <= character <= "~" for character in token):
        return _refuse(f"{options.token_file}: expected one token of printable characters and nothing else")
    grafana = JsonApi("Grafana", options.grafana, token)
    return _with_api_errors(lambda: push(grafana, options.folder, options.force, options.dry_run, sys.stdout))


def _alerts_check(options: argparse.Namespace) -> int:
    from deckwatch.pack_alerts import check
    from deckwatch.registry import Registry

    if options.strict and not options.prometheus:
        return _refuse("--strict needs --prometheus")
    prometheus = _prometheus(options.prometheus) if options.prometheus else None
    return _with_api_errors(lambda: check(Registry.installed(), prometheus, options.strict, sys.stdout))


def _gate(options: argparse.Namespace) -> int:
    from deckwatch.gate import UnknownAlertError, gate

    prometheus = _prometheus(options.prometheus)
    try:
        return _with_api_errors(lambda: gate(prometheus, options.window, options.alert, options.severity, sys.stdout))
    except UnknownAlertError as wrong:
        return _refuse(str(wrong))
