"""What the page shows: a headline, cards, groups of healthy targets, and the table of collectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from deckwatch.status_page import sparkline, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deckwatch.collection.status import (
        AgentStatus,
        AlertStatus,
        CollectorStatus,
        DestinationStatus,
        KeyFigureStatus,
        LogJournalStatus,
        State,
        TargetStatus,
    )

Level = Literal["bad", "warning", "waiting", "good"]

MAX_CARDS = 60  # further targets are listed by name
MAX_ROWS = 500
_RUNBOOKS = "https://github.com/deckwatch/deckwatch/blob/main/alerts/runbooks/"
_OWN, _LOGS = "deckwatch", "logs"
_RANK: dict[Level, int] = {"bad": 0, "warning": 1, "waiting": 2, "good": 3}
_LEVELS: dict[State, Level] = {
    "failing": "bad",
    "hung": "bad",
    "not_run": "waiting",
    "pending": "waiting",
    "ok": "good",
}
_WORDS: dict[State, str] = {"not_run": "not run"}
MARKS: dict[Level, str] = {"bad": "\u2717", "warning": "!", "waiting": "\u2026", "good": "\u2713"}


@dataclass(frozen=True)
class Figure:
    """A key figure as text, and the path of its last hour."""

    title: str
    text: str
    is_high: bool
    path: str


@dataclass(frozen=True)
class Card:
    """A target. `cause` is why it does not work, `fixes` are statements or commands."""

    id: str
    title: str
    kind: str
    level: Level
    state: str
    since: float | None
    cause: str = ""
    fixes: tuple[str, ...] = ()
    runbook: str = ""
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Group:
    """Healthy targets of one exporter without a card."""

    exporter: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A collector."""

    collector: CollectorStatus
    level: Level
    state: str
    error: str


@dataclass(frozen=True)
class View:
    """The whole page, worst first."""

    level: Level
    headline: str
    details: tuple[str, ...]
    cards: tuple[Card, ...]
    groups: tuple[Group, ...]
    own: Card
    rows: tuple[Row, ...]
    left_out: int
    alerts: tuple[AlertStatus, ...] | None = None
    text: str = ""
    state: str = ""
    states: tuple[str, ...] = field(default=("failing", "waiting", "ok"))


def view(
    status: AgentStatus, history: Callable[[str, str, str], Sequence[float]], text: str = "", state: str = ""
) -> View:
    """The page for a status. `text` and `state` filter the table of collectors."""
    figures: dict[tuple[str, str], list[KeyFigureStatus]] = {}
    for figure in status.key_figures:
        figures.setdefault((figure.exporter, figure.target), []).append(figure)
    targets = status.targets()
    own = next((it for it in targets if it.exporter == _OWN), None)
    made = [_target(it, figures) for it in targets if it.exporter != _OWN]
    made += [_journal(it) for it in status.journals]
    made += [_destination(it, _LOGS, "Loki", "LogShippingStuck") for it in status.logs]
    made += [_destination(it, "remote_write", "Receiver", "RemoteWriteBehind") for it in status.remote_write]
    if (_LOGS, "") in figures and status.logs:
        made.append(Card("logs", "Logs", _LOGS, "good", "", None))
    made.sort(key=lambda card: (_RANK[card.level], card.kind != "system", card.kind, card.title))
    shown = made[:MAX_CARDS]
    cards = tuple(_with_figures(card, figures, history) for card in shown)
    level, headline = _headline(status, made, own)
    rows, left_out = _rows(status.collectors, text, state)
    return View(
        level,
        headline,
        tuple(status.problems),
        cards,
        _groups(made[MAX_CARDS:]),
        _with_figures(_own(own), figures, history),
        rows,
        left_out,
        status.alerts,
        text,
        state,
    )


def _target(target: TargetStatus, figures: Mapping[tuple[str, str], Sequence[KeyFigureStatus]]) -> Card:
    level, state = _LEVELS[target.state], _WORDS.get(target.state, target.state)
    is_partial = level == "bad" and not target.is_down
    if is_partial:
        level, state = "warning", "partly failing"
    elif level == "bad" and target.is_down:
        state = "down" if target.state == "failing" else state
    high = [it.title for it in figures.get((target.exporter, target.target), ()) if it.is_high]
    cause = _cause(target, is_partial)
    if level == "good" and target.lacks:
        level, state, cause = "warning", "incomplete", _sentences(target.lacks)
    elif level == "good" and high:
        level, state, cause = "warning", "busy", f"High: {', '.join(high)}."
    return Card(
        id=f"{target.exporter}/{target.target}",
        title=target.target or ("Host" if target.exporter == "system" else target.exporter),
        kind=target.exporter,
        level=level,
        state=state,
        since=target.since,
        cause=cause,
        fixes=target.remedies,
        runbook=f"{_RUNBOOKS}{target.runbook}.md" if target.is_down and target.runbook else "",
    )


def _cause(target: TargetStatus, is_partial: bool) -> str:
    """The distinct errors; which collectors they stop, where others work."""
    errors: dict[str, list[str]] = {}
    for collector, error in target.errors.items():
        for remedy in target.remedies:  # the card shows it by itself
            error = error.removesuffix(f"; {remedy}")
        errors.setdefault(error, []).append(collector)
    if target.state == "hung" and not errors:
        return "The last run has not ended."
    shown = [f"{', '.join(names)}: {error}" if is_partial else error for error, names in errors.items()]
    return " ".join(_first(shown))


def _sentences(lacks: Sequence[str]) -> str:
    return " ".join(_first([f"{lack[:1].upper()}{lack[1:]}." for lack in lacks]))


def _first(shown: Sequence[str]) -> list[str]:
    more = len(shown) - 3
    return [*shown[:3], *([f"And {more} more; see the table below."] if more > 0 else [])]


def _destination(destination: DestinationStatus, kind: str, title: str, runbook: str) -> Card:
    is_ok = destination.state == "ok"
    return Card(
        id=f"{kind}/{destination.name}",
        title=f"{title} {destination.name}",
        kind=kind,
        level=_LEVELS[destination.state],
        state=destination.state,
        since=destination.since,
        cause=destination.error or "",
        runbook="" if is_ok else f"{_RUNBOOKS}{runbook}.md",
    )


def _journal(journal: LogJournalStatus) -> Card:
    name = " ".join(journal.name.split())
    return Card(
        id=f"logs/{name}",
        title=f"{name[:1].upper()}{name[1:]}",
        kind=_LOGS,
        level=_LEVELS[journal.state],
        state=journal.state,
        since=None,
        cause=journal.error or "",
        runbook=f"{_RUNBOOKS}LogJournalNotRead.md" if journal.error else "",
    )


def _own(target: TargetStatus | None) -> Card:
    if target is None:
        return Card("deckwatch", "Deckwatch", _OWN, "waiting", "pending", None)
    return Card("deckwatch", "Deckwatch", _OWN, _LEVELS[target.state], target.state, target.since, _cause(target, True))


def _with_figures(
    card: Card,
    figures: Mapping[tuple[str, str], Sequence[KeyFigureStatus]],
    history: Callable[[str, str, str], Sequence[float]],
) -> Card:
    exporter, _, target = card.id.partition("/")
    if exporter == _LOGS and target:
        return card  # the figures of logs are those of all destinations
    found = tuple(
        Figure(
            it.title,
            texts.number(it.value, it.unit, it.per_second),
            it.is_high,
            sparkline.path(history(it.exporter, it.target, it.title)),
        )
        for it in figures.get((exporter, target), ())
    )
    return Card(**{**vars(card), "figures": found})


def _headline(status: AgentStatus, cards: Sequence[Card], own: TargetStatus | None) -> tuple[Level, str]:
    counted = [card for card in cards if card.id != "logs"]
    number = {level: sum(card.level == level for card in counted) for level in _RANK}
    of = f"of {len(counted)} {'target' if len(counted) == 1 else 'targets'}"
    critical = [alert for alert in status.alerts or () if alert.severity == "critical"]
    if number["bad"]:
        return "bad", f"{number['bad']} {of} {_is(number['bad'])} down"
    if own is not None and _LEVELS[own.state] == "bad":
        return "bad", "Deckwatch cannot monitor itself"
    if critical:
        return "bad", f"{len(critical)} critical {'alert fires' if len(critical) == 1 else 'alerts fire'}"
    if not status.config_loaded:
        return "warning", "The config file has changed and is invalid; the previous config is in effect"
    if number["warning"]:
        return "warning", f"{number['warning']} {of} {'needs' if number['warning'] == 1 else 'need'} attention"
    if status.problems:
        return "warning", "Deckwatch has a problem"
    if number["waiting"]:
        return (
            "waiting",
            f"Starting: {number['waiting']} {of} {'has' if number['waiting'] == 1 else 'have'} no data yet",
        )
    if status.alerts:
        count = len(status.alerts)
        return "warning", f"All targets work; {count} {'alert fires' if count == 1 else 'alerts fire'}"
    return "good", "Everything works"


def _error(collector: CollectorStatus) -> str:
    return collector.error or "; ".join(lack.what for lack in collector.lacks)


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _groups(cards: Iterable[Card]) -> tuple[Group, ...]:
    names: dict[str, list[str]] = {}
    for card in cards:
        names.setdefault(card.kind, []).append(card.title if card.level == "good" else f"{card.title} ({card.state})")
    return tuple(Group(kind, tuple(found)) for kind, found in names.items())


def _rows(collectors: Iterable[CollectorStatus], text: str, state: str) -> tuple[tuple[Row, ...], int]:
    """The rows that the filter leaves, worst first, and how many more there are."""
    wanted = text.casefold()
    rows = [
        Row(it, _LEVELS[it.state], _WORDS.get(it.state, it.state), _error(it))
        for it in collectors
        if (not wanted or wanted in f"{it.name} {it.target} {_error(it)}".casefold())
        and (not state or _LEVELS[it.state] == {"failing": "bad", "waiting": "waiting", "ok": "good"}.get(state))
    ]
    rows.sort(key=lambda row: (_RANK[row.level], row.collector.name, row.collector.target))
    return tuple(rows[:MAX_ROWS]), max(0, len(rows) - MAX_ROWS)
