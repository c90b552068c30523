"""`deckwatch dashboards`: list, export or push the Grafana dashboards."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from deckwatch.cli import arguments, pack_arguments
from deckwatch.cli.progress import Progress
from deckwatch.cli.table import table
from deckwatch.collection.registry import Registry
from deckwatch.pack.dashboards import Dashboard, push, shipped_dashboards
from deckwatch.pack.json_api import JsonApi
from deckwatch.pack.slo_dashboard import SLO_DASHBOARD, slo_dashboard

if TYPE_CHECKING:
    import argparse

# Grafana's tokens are far shorter: a longer one means that this is the wrong file.
_MAX_TOKEN = 4096


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    listed = commands.add_parser("list", help="list the dashboards")
    listed.set_defaults(command=_list)
    exported = pack_arguments.add_export(
        commands, "write the dashboards as JSON to a folder, with one for the config's SLOs"
    )
    exported.set_defaults(command=_export)
    push = commands.add_parser(
        "push", help="create or update the dashboards in Grafana, except those that users changed"
    )
    push.add_argument(
        "--grafana", type=pack_arguments.url, required=True, metavar="URL", help="for example http://127.0.0.1:3000"
    )
    push.add_argument(
        "--token-file",
        required=True,
        metavar="FILE",
        help="file with the token of a service account that may edit dashboards",
    )
    push.add_argument("--folder", metavar="NAME", help="folder for new dashboards (default: the top level)")
    push.add_argument(
        "--force", action="store_true", help="also overwrite dashboards that users changed, and newer versions"
    )
    push.add_argument("--dry-run", action="store_true", help="only report what would be done")
    arguments.add_config(push)
    push.set_defaults(command=_push)


def _list(_options: argparse.Namespace) -> int:
    def show() -> int:
        rows = [(dashboard.uid, dashboard.title, dashboard.version) for dashboard in shipped_dashboards()]
        sys.stdout.write(table(("UID", "TITLE", "VERSION"), rows))
        return 0

    return pack_arguments.with_api_errors(show)


def _export(options: argparse.Namespace) -> int:
    return pack_arguments.run_export("dashboards", options, _generated(options))


def _generated(options: argparse.Namespace) -> dict[str, bytes]:
    slos = arguments.load(options, Registry.installed(), allow_missing_secrets=True).settings.slos
    return {SLO_DASHBOARD: slo_dashboard()} if slos else {}


def _push(options: argparse.Namespace) -> int:
    if options.folder is not None and not options.folder.strip():
        return pack_arguments.refuse("--folder is empty. Give the name of a Grafana folder.")
    try:
        with open(options.token_file, "rb") as file:
            token = file.read(_MAX_TOKEN + 1).decode("ascii").strip()
    except OSError as failure:
        return pack_arguments.refuse(f"{options.token_file}: {failure.strerror}. Check --token-file.")
    except UnicodeDecodeError:
        token = ""
    if not token or len(token) > _MAX_TOKEN or not all("!" <= character <= "~" for character in token):
        return pack_arguments.refuse(
            f"{options.token_file}: not a token. Write a Grafana service account token to the file, and nothing else."
        )
    grafana = JsonApi("Grafana", options.grafana, token)
    generated = [Dashboard(json.loads(content)) for content in _generated(options).values()]
    progress = Progress(len(shipped_dashboards()) + len(generated), "dashboards compared")
    try:
        return pack_arguments.with_api_errors(
            lambda: push(grafana, options.folder, options.force, options.dry_run, sys.stdout, progress.show, generated)
        )
    finally:
        progress.end()
