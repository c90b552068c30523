"""The syntax tree of a PromQL expression."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Expr:
    """Any expression."""

    def children(self) -> Iterator[Expr]:
        """The expressions that this one consists of."""
        for field in fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Expr):
                    yield item

    def walk(self) -> Iterator[Expr]:
        """This expression and all below it."""
        yield self
        for child in self.children():
            yield from child.walk()

    def map_children(self, change: Callable[[Expr], Expr]) -> Expr:
        """The same expression with each child replaced by what `change` makes of it."""
        changed: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Expr):
                changed[field.name] = change(value)
            elif isinstance(value, tuple) and any(isinstance(item, Expr) for item in value):
                changed[field.name] = tuple(change(item) for item in value)
        return replace(self, **changed)


@dataclass(frozen=True)
class Number(Expr):
    """A number, as text in one form for each value: NaN is not equal to itself."""

    text: str


@dataclass(frozen=True)
class String(Expr):
    value: str


@dataclass(frozen=True)
class Matcher:
    """A label matcher; `op` is =, !=, =~ or !~."""

    label: str
    op: str
    value: str


@dataclass(frozen=True)
class Selector(Expr):
    """An instant vector selector. `name` is empty if the selector has matchers only."""

    name: str
    matchers: tuple[Matcher, ...] = ()

    @property
    def metric(self) -> str:
        """The metric's name, written before the braces or as a matcher on `__name__`; empty if it is not fixed."""
        named = (matcher.value for matcher in self.matchers if (matcher.label, matcher.op) == ("__name__", "="))
        return self.name or next(named, "")


@dataclass(frozen=True)
class Range(Expr):
    """A range vector selector: `selector[duration]`."""

    selector: Expr
    duration: str


@dataclass(frozen=True)
class Subquery(Expr):
    """`expr[duration:step]`; without a step it is the default one."""

    expr: Expr
    duration: str
    step: str = ""


@dataclass(frozen=True)
class Modified(Expr):
    """A selector, range or subquery with `@ at` (a Unix time, `start()` or `end()`), `offset`, or both."""

    expr: Expr
    offset: str = ""
    at: str = ""


@dataclass(frozen=True)
class Parens(Expr):
    expr: Expr


@dataclass(frozen=True)
class Call(Expr):
    """A function call."""

    function: str
    args: tuple[Expr, ...] = ()


@dataclass(frozen=True)
class Grouping:
    """The `by` or `without` clause of an aggregation."""

    is_without: bool
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Aggregation(Expr):
    """An aggregation. Of two `args` the first is the parameter, as in `topk(3, x)`."""

    operator: str
    args: tuple[Expr, ...]
    grouping: Grouping | None = None


@dataclass(frozen=True)
class Unary(Expr):
    operator: str
    expr: Expr


@dataclass(frozen=True)
class Matching:
    """How a binary operator matches series: `on` or `ignoring`, and `group_left` or `group_right` with labels."""

    is_on: bool
    labels: tuple[str, ...]
    group: str = ""
    include: tuple[str, ...] = ()


@dataclass(frozen=True)
class Binary(Expr):
    operator: str
    left: Expr
    right: Expr
    is_bool: bool = False
    matching: Matching | None = None


def metrics_in(tree: Expr) -> set[str]:
    """The names of the metrics and recorded series that an expression reads."""
    return {node.metric for node in tree.walk() if isinstance(node, Selector) and node.metric}
