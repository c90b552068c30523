"""The cost of rules with regular expressions: for a line of an application, and for the worst line of 256 KiB."""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING, Any

from bench.logs import line
from deckwatch.config.log_settings import FileSettings
from deckwatch.config.patterns import AnyOf, Pattern
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser
from security.hostile_texts import TEXTS, cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LINES = 20_000
PATTERNS = ("GET /healthz?", r"GET /static/\S+", "(?i)debug.*cache")
WORST: dict[str, dict[str, Any]] = {
    "drop .*error.*": {"drop": [{"matches": ".*error.*"}]},
    r"redact \S+@\S+": {"redact": [{"matches": r"\S+@\S+"}]},
    "drop ^(a+)+$": {"drop": [{"matches": "^(a+)+$"}]},
    "redact email": {"redact": [{"kind": "email"}]},
    "redact card": {"redact": [{"kind": "card"}]},
    "redact token": {"redact": [{"kind": "token"}]},
}


def rules(_folder: Path) -> list[tuple[str, ...]]:
    """Three rules for a line, beside Python's `re`; then the slowest of the hostile texts for each rule."""
    chance = random.Random(1)
    texts = [line(number, chance) for number in range(LINES)]
    together = AnyOf(map(Pattern, PATTERNS))
    one_by_one = [re.compile(pattern).search for pattern in PATTERNS]
    ours = _microseconds(lambda: [together.search(text) for text in texts])
    theirs = _microseconds(lambda: [any(search(text) for search in one_by_one) for text in texts])
    rows: list[tuple[str, ...]] = [
        ("microseconds for three rules a line", f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}")
    ]
    for name, settings in WORST.items():
        slowest = max(_milliseconds(text, settings) for text in TEXTS)
        rows.append((f"milliseconds for 256 KiB at most, {name}", f"{slowest:.1f}", "-", "-"))
    return rows


def _microseconds(action: Callable[[], object]) -> float:
    return min(cpu_seconds(action) for _ in range(5)) / LINES * 1e6


def _milliseconds(text: str, settings: dict[str, Any]) -> float:
    parser = Parser(FileSettings(path="/x", format="raw", **settings), "/x", {}, Counts(), time.time_ns)
    return cpu_seconds(lambda: parser.feed([text.encode()], 0)) * 1e3
