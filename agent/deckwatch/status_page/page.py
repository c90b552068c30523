"""The page for people: the same as `/api/v1/status`, without any outside resource or script."""

from __future__ import annotations

import base64
import hashlib
import html
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deckwatch.collection.status import AgentStatus, CollectorStatus, LogDestinationStatus

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #c0392b; --good: #1e7e34; --wait: #8a6d00; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff7b6b; --good: #6fcf84; --wait: #e0c060; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
nav a { margin-right: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; } td:nth-child(-n+7) { white-space: nowrap; }
.ok { color: var(--good); } .pending, .not_run { color: var(--wait); }
.failing, .hung { color: var(--bad); font-weight: 600; }
.error { overflow-wrap: anywhere; min-width: 14rem; }
""".strip()

_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"

_MARKS = {
    "ok": "\u2713 ok",
    "pending": "\u2026 pending",
    "not_run": "\u2013 not run",
    "failing": "\u2717 failing",
    "hung": "\u2717 hung",
}
_ORDER = {"failing": 0, "hung": 0, "pending": 1, "ok": 2}
_LINKS = (
    ("/metrics", "metrics"),
    ("/health/detailed", "health"),
    ("/health/dependencies", "dependencies"),
    ("/sd", "service discovery"),
    ("/api/v1/status", "status as JSON"),
)


def status_page(status: AgentStatus) -> str:
    """The whole page. Every value is escaped: names and errors come from what is watched."""
    collectors = status.collectors
    bad = sum(collector.state in ("failing", "hung") for collector in collectors)
    bad_logs = sum(destination.state != "ok" for destination in status.logs)
    summary = f"{bad} of {len(collectors)} collectors are failing" if bad else f"All {len(collectors)} collectors work"
    if bad_logs:
        summary += f"; {bad_logs} of {len(status.logs)} log destinations are failing"
    overall = "failing" if bad or bad_logs else "ok"
    host = ", ".join(
        f"{name} {ratio:.0%}"
        for name, ratio in (
            ("CPU", status.host.cpu_ratio),
            ("memory", status.host.memory_ratio),
            ("disk", status.host.disk_ratio),
        )
        if ratio is not None
    )
    host = f"{host}." if host else ""
    not_run = Counter((it.exporter, it.target) for it in collectors if it.state == "not_run")
    shown = sorted((it for it in collectors if it.state != "not_run"), key=lambda it: (_ORDER[it.state], it.name))
    rows = "\n".join(
        [*map(_log_row, status.logs), *(_row(it, not_run.pop((it.exporter, it.target), 0)) for it in shown)]
    )
    links = " ".join(f'<a href="{path}">{name}</a>' for path, name in _LINKS)
    config = html.escape(status.config or "none, the defaults")
    if not status.config_loaded:
        config += ' <strong class="failing">(the file has changed and cannot be loaded; see the log)</strong>'
    problems = "".join(f'\n<p class="failing">{html.escape(problem)}</p>' for problem in status.problems)
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Deckwatch</title><style>{_STYLE}</style></head>
<body>
<h1>Deckwatch</h1>
<nav>{links}</nav>
<p><strong class="{overall}">{summary}.</strong> {host} Up since {_time(status.started)}.<br>
Version {html.escape(status.version)}, config: {config}.</p>{problems}
<div class="wide"><table>
<thead><tr><th>Collector</th><th>Target</th><th>State</th><th>Last run</th><th class="number">Took</th>
<th class="number">Samples</th><th>Next run</th><th>Error</th></tr></thead>
<tbody>
{rows}
</tbody></table></div>
</body></html>
"""


def _error(collector: CollectorStatus, not_run: int) -> str:
    parts = [collector.error or ""]
    if not_run:
        parts.append(f"{not_run} more collector{'s are' if not_run > 1 else ' is'} not run")
    return ". ".join(filter(None, parts))


def _log_row(destination: LogDestinationStatus) -> str:
    """A destination of logs as a row of the table of collectors."""
    since = f"failing since {_time(destination.since)}: " if destination.since is not None else ""
    return (
        f"<tr><td>logs to {html.escape(destination.name)}</td><td></td>"
        f'<td class="{destination.state}">{_MARKS[destination.state]}</td><td></td><td></td><td></td><td></td>'
        f'<td class="error">{since}{html.escape(destination.error or "")}</td></tr>'
    )


def _row(collector: CollectorStatus, not_run: int) -> str:
    """A row of the table; `not_run` is the number of collectors that its failure keeps from running."""
    state = collector.state
    took = "" if collector.duration is None else f"{collector.duration * 1000:.1f} ms"
    samples = "" if collector.samples is None else str(collector.samples)
    cells = (
        ("", html.escape(collector.name)),
        ("", html.escape(collector.target)),
        (state, _MARKS[state]),
        ("", _time(collector.last_run)),
        ("number", took),
        ("number", samples),
        ("", _time(collector.next_run)),
        ("error", html.escape(_error(collector, not_run))),
    )
    return (
        "<tr>"
        + "".join(f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>" for kind, text in cells)
        + "</tr>"
    )


def _time(timestamp: float | None) -> str:
    """Time of day in UTC, with the date where that is another than today's."""
    if timestamp is None:
        return ""
    moment = datetime.fromtimestamp(timestamp, UTC)
    today = datetime.now(UTC).date()
    shown = moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")
    return f'<time datetime="{moment.isoformat(timespec="seconds")}">{shown} UTC</time>'
