"""List the series of an expression, and replace recorded series by what they record.

A Prometheus that has not loaded the rules has no recorded series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.pack.promql.parser import parse
from deckwatch.pack.promql.printing import to_text
from deckwatch.pack.promql.tree import (
    Aggregation,
    Binary,
    Call,
    Expr,
    Matcher,
    Matching,
    Modified,
    Number,
    Parens,
    Range,
    Selector,
    String,
    Subquery,
    metrics_in,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A label that no series has, for the time of one filter.
_MARK = "__deckwatch_matches"


class RewriteError(ValueError):
    """A recorded series cannot be replaced; the message says which one and why."""


def names_in(expr: str) -> set[str]:
    """The names of the metrics and recorded series that an expression reads. Raises PromqlError."""
    return metrics_in(parse(expr))


def without_recorded(expr: str, recorded: Mapping[str, str], step: str) -> str:
    """The expression with every recorded series replaced by what it records.

    A range becomes a subquery with the resolution `step` (`15s`); so does an offset or `@`. Matchers become a filter
    on the result. Raises PromqlError and RewriteError.
    """
    return to_text(_Rewriter(recorded, step).rewrite(parse(expr), ()))


class _Rewriter:
    def __init__(self, recorded: Mapping[str, str], step: str) -> None:
        self._recorded = recorded
        self._step = step

    def rewrite(self, tree: Expr, inside: tuple[str, ...]) -> Expr:
        """`inside` are the recorded series with an expression that contains this one."""
        match tree:
            case Selector() if self._is_recorded(tree):
                return self._replacement(tree, inside)
            case Range(Selector() as selector, duration) if self._is_recorded(selector):
                return Subquery(self._replacement(selector, inside), duration, self._step)
            case Modified(Selector() as selector, offset, at) if self._is_recorded(selector):
                # Only a selector, a range or a subquery can have an offset: take the one value of a short subquery.
                subquery = Subquery(self._replacement(selector, inside), self._step, self._step)
                return Call("last_over_time", (Modified(subquery, offset, at),))
        return tree.map_children(lambda child: self.rewrite(child, inside))

    def _is_recorded(self, selector: Selector) -> bool:
        return selector.metric in self._recorded

    def _replacement(self, selector: Selector, inside: tuple[str, ...]) -> Expr:
        name = selector.metric
        if name in inside:
            raise RewriteError(f"{name} is recorded from itself ({' -> '.join((*inside, name))})")
        tree = self.rewrite(parse(self._recorded[name]), (*inside, name))
        for matcher in selector.matchers:
            if matcher.label != "__name__":
                tree = _filtered(tree, matcher)
            elif matcher.op != "=":
                raise RewriteError(f"{name} is recorded, and has a matcher on __name__. Write the metric's name only")
        return _operand(tree)


def _operand(tree: Expr) -> Expr:
    """The tree in parentheses, unless it binds tighter than any operator."""
    return tree if isinstance(tree, Selector | Call | Aggregation | Parens) else Parens(tree)


def _filtered(tree: Expr, matcher: Matcher) -> Expr:
    """The series of any expression that a label matcher accepts.

    PromQL has matchers on selectors only. So the series are joined with one that has nothing but the wanted label;
    for a regular expression, with one that has a mark, which `label_replace` gave to those that match.
    """
    operator = "and" if matcher.op[0] == "=" else "unless"
    label, value, marked = matcher.label, matcher.value, tree
    if matcher.op[1:] == "~":
        label, value = _MARK, "1"
        marked = _label_replace(tree, _MARK, "1", matcher.label, matcher.value)
    wanted = _label_replace(Call("vector", (Number("1"),)), label, value.replace("$", "$$"), "", "")
    kept = Binary(operator, _operand(marked), wanted, matching=Matching(True, (label,)))
    return kept if marked is tree else _label_replace(kept, _MARK, "", "", "")


def _label_replace(tree: Expr, label: str, value: str, source: str, pattern: str) -> Expr:
    return Call("label_replace", (tree, *map(String, (label, value, source, pattern))))
