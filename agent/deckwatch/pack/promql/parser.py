"""Parse PromQL text into its tree. Types and functions are not checked: that needs a Prometheus, or promtool."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn, TypeVar

from deckwatch.pack.promql.tokens import Kind, PromqlError, Token, tokenize
from deckwatch.pack.promql.tree import (
    Aggregation,
    Binary,
    Call,
    Expr,
    Grouping,
    Matcher,
    Matching,
    Modified,
    Number,
    Parens,
    Range,
    Selector,
    String,
    Subquery,
    Unary,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_WITH_PARAMETER = {"topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio"}
_AGGREGATIONS = _WITH_PARAMETER | {"sum", "avg", "count", "min", "max", "group", "stddev", "stdvar"}
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_SET_OPERATORS = {"and", "or", "unless"}
_POWER = 6
_PRECEDENCE = {
    "or": 1, "and": 2, "unless": 2, **dict.fromkeys(_COMPARISONS, 3),
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5, "atan2": 5, "^": _POWER,
}  # fmt: skip
# These can be neither a metric nor a function; other keywords can be metrics.
_RESERVED = {"bool", "on", "ignoring", "group_left", "group_right", "atan2"}
_NOT_FUNCTIONS = _RESERVED | _SET_OPERATORS | {"by", "without", "offset", "start", "end"}
_MAX_DEPTH = 100
_Item = TypeVar("_Item")


def parse(text: str) -> Expr:
    """The tree of an expression. Raises PromqlError."""
    return _Parser(text).parse()


class _Parser:
    """A recursive descent parser with one token of look-ahead, and two for the clause of an aggregation."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(tokenize(text))
        self._index = 0
        self._depth = 0

    def parse(self) -> Expr:
        tree = self._expression()
        if self._next.kind is not Kind.END:
            self._fail("an operator or the end")
        return tree

    @property
    def _next(self) -> Token:
        return self._tokens[self._index]

    def _take(self) -> Token:
        token = self._next
        self._index += 1
        return token

    def _fail(self, expected: str) -> NoReturn:
        token = self._next
        found = Kind.END.value if token.kind is Kind.END else repr(token.text)
        raise PromqlError(self._text, token.offset, f"expected {expected}, found {found}")

    def _refuse(self, token: Token, problem: str) -> NoReturn:
        raise PromqlError(self._text, token.offset, problem)

    def _take_symbol(self, symbol: str) -> None:
        if not self._take_if(symbol):
            self._fail(f"{symbol!r}")

    def _take_if(self, symbol: str) -> bool:
        if self._next.is_symbol(symbol):
            self._index += 1
            return True
        return False

    def _take_kind(self, kind: Kind) -> str:
        if self._next.kind is not kind:
            self._fail(kind.value)
        return self._take().text

    def _expression(self, min_precedence: int = 1) -> Expr:
        """An operand and the binary operators after it, down to the given precedence."""
        outer_depth = self._depth
        self._descend()
        left = self._unary()
        while True:
            operator = self._next
            symbol = operator.keyword or (operator.text if operator.kind is Kind.SYMBOL else "")
            precedence = _PRECEDENCE.get(symbol, 0)
            if precedence < min_precedence:
                self._depth = outer_depth
                return left
            self._descend()
            self._take()
            is_bool, matching = self._operator_clauses(operator, symbol)
            # Operators of one precedence associate to the left, but `^` to the right.
            right = self._expression(precedence if precedence == _POWER else precedence + 1)
            left = Binary(symbol, left, right, is_bool, matching)

    def _descend(self) -> None:
        """Count a level of the tree: what uses trees is recursive."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._refuse(self._next, "the expression is nested too deeply, or has too many operators")

    def _operator_clauses(self, operator: Token, symbol: str) -> tuple[bool, Matching | None]:
        is_bool = self._next.keyword == "bool"
        if is_bool:
            self._take()
            if symbol not in _COMPARISONS:
                self._refuse(operator, f"bool is not possible with {symbol!r}, only with comparisons")
        if self._next.keyword not in ("on", "ignoring"):
            return is_bool, None
        is_on = self._take().keyword == "on"
        labels = self._labels()
        group = self._next.keyword
        if group not in ("group_left", "group_right"):
            return is_bool, Matching(is_on, labels)
        if symbol in _SET_OPERATORS:
            self._fail(f"an operand: {group} is not possible with {symbol!r}")
        self._take()
        include = self._labels() if self._next.is_symbol("(") else ()
        return is_bool, Matching(is_on, labels, group, include)

    def _unary(self) -> Expr:
        if self._next.is_symbol("+", "-"):
            # It binds less than `^`, and more than all others.
            return Unary(self._take().text, self._expression(_POWER))
        return self._modifiers(self._primary())

    def _primary(self) -> Expr:
        token = self._next
        if token.kind is Kind.NUMBER or token.keyword in ("inf", "nan"):
            return Number(_number(self._take().text))
        if token.kind is Kind.STRING:
            return String(self._take().text)
        if self._take_if("("):
            inner = self._expression()
            self._take_symbol(")")
            return Parens(inner)
        if token.is_symbol("{"):
            return self._selector("")
        if token.kind is not Kind.WORD:
            self._fail("a metric, a function, a number or '('")
        keyword, after = token.keyword, self._tokens[self._index + 1]
        has_clause = after.keyword in ("by", "without") and self._tokens[self._index + 2].is_symbol("(")
        if keyword in _AGGREGATIONS and (after.is_symbol("(") or has_clause):
            return self._aggregation()
        if keyword in _RESERVED or (after.is_symbol("(") and keyword in _NOT_FUNCTIONS):
            self._fail("a metric, a function, a number or '('")
        self._take()
        if not after.is_symbol("("):
            return self._selector(token.text)
        if ":" in token.text:
            self._refuse(token, f"{token.text!r} is not a function")
        return Call(token.text, self._list("(", ")", self._expression, may_end_with_comma=False))

    def _aggregation(self) -> Expr:
        token = self._take()
        grouping = self._grouping()
        args = self._list("(", ")", self._expression, may_end_with_comma=False)
        if grouping is None:
            grouping = self._grouping()
        wanted = 2 if token.keyword in _WITH_PARAMETER else 1
        if len(args) != wanted:
            self._refuse(token, f"{token.keyword} needs {wanted} arguments, not {len(args)}")
        return Aggregation(token.keyword, args, grouping)

    def _grouping(self) -> Grouping | None:
        if self._next.keyword not in ("by", "without"):
            return None
        return Grouping(self._take().keyword == "without", self._labels())

    def _labels(self) -> tuple[str, ...]:
        return self._list("(", ")", self._label)

    def _label(self) -> str:
        if self._next.kind is not Kind.WORD or ":" in self._next.text:
            self._fail("a label's name")
        return self._take().text

    def _list(
        self, opening: str, closing: str, item: Callable[[], _Item], may_end_with_comma: bool = True
    ) -> tuple[_Item, ...]:
        self._take_symbol(opening)
        found: list[_Item] = []
        while not self._take_if(closing):
            if found:
                if not self._take_if(","):
                    self._fail(f"',' or {closing!r}")
                if may_end_with_comma and self._take_if(closing):
                    break
            found.append(item())
        return tuple(found)

    def _selector(self, name: str) -> Selector:
        token = self._next
        matchers = self._list("{", "}", self._matcher) if token.is_symbol("{") else ()
        if not name and not matchers:
            self._refuse(token, "a selector needs a metric or a matcher")
        if name and any(matcher.label == "__name__" and matcher.op == "=" for matcher in matchers):
            self._refuse(token, f"the metric is named twice: {name} and in a matcher on __name__")
        return Selector(name, matchers)

    def _matcher(self) -> Matcher:
        label = self._label()
        if not self._next.is_symbol("=", "!=", "=~", "!~"):
            self._fail("=, !=, =~ or !~")
        return Matcher(label, self._take().text, self._take_kind(Kind.STRING))

    def _modifiers(self, tree: Expr) -> Expr:
        """What can follow an operand: ranges, subqueries, offsets and times."""
        while True:
            token = self._next
            if self._take_if("["):
                tree = self._range(tree, token)
            elif token.keyword == "offset" or token.is_symbol("@"):
                self._take()
                known = tree if isinstance(tree, Modified) else Modified(tree)
                if not isinstance(known.expr, Selector | Range | Subquery):
                    self._refuse(token, f"{token.text} is possible after a selector, a range and a subquery only")
                is_offset = token.keyword == "offset"
                if known.offset if is_offset else known.at:
                    self._refuse(token, f"a second {token.text}")
                if is_offset:
                    tree = Modified(known.expr, self._sign() + self._take_kind(Kind.DURATION), known.at)
                else:
                    tree = Modified(known.expr, known.offset, self._at())
            else:
                return tree

    def _range(self, tree: Expr, token: Token) -> Expr:
        duration = self._take_kind(Kind.DURATION)
        if self._take_if(":"):
            step = self._take().text if self._next.kind is Kind.DURATION else ""
            self._take_symbol("]")
            return Subquery(tree, duration, step)
        self._take_symbol("]")
        if not isinstance(tree, Selector):
            self._refuse(token, f"a range is possible after a selector only; a subquery is [{duration}:]")
        return Range(tree, duration)

    def _at(self) -> str:
        if self._next.keyword in ("start", "end"):
            name = self._take().keyword
            self._take_symbol("(")
            self._take_symbol(")")
            return f"{name}()"
        return self._sign() + _number(self._take_kind(Kind.NUMBER))

    def _sign(self) -> str:
        """`-` or nothing."""
        if self._take_if("-"):
            return "-"
        self._take_if("+")
        return ""


def _number(text: str) -> str:
    """The shortest text of the same number."""
    lower = text.lower()
    value = float(int(lower, 16)) if lower.startswith("0x") else float(lower)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Inf"
    return repr(value).removesuffix(".0")
