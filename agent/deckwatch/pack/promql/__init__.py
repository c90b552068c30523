"""PromQL as far as rules and dashboards use it: parse an expression, print it, list its metrics, rewrite it."""

from deckwatch.pack.promql.durations import seconds
from deckwatch.pack.promql.parser import parse
from deckwatch.pack.promql.printing import to_text
from deckwatch.pack.promql.recorded import RewriteError, names_in, without_recorded
from deckwatch.pack.promql.results import can_have_result
from deckwatch.pack.promql.tokens import PromqlError

__all__ = [
    "PromqlError",
    "RewriteError",
    "can_have_result",
    "names_in",
    "parse",
    "seconds",
    "to_text",
    "without_recorded",
]
