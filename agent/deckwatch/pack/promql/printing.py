"""Print the tree of a PromQL expression, on one line and in one form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.pack.promql.tree import (
    Aggregation,
    Binary,
    Call,
    Expr,
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
    from collections.abc import Iterable

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_text(tree: Expr) -> str:
    """The expression as text: `parse(to_text(tree))` is `tree` again. Parentheses are those of the tree."""
    match tree:
        case Number(text):
            return text
        case String(value):
            return _quoted(value)
        case Selector(name, matchers):
            inside = ",".join(f"{matcher.label}{matcher.op}{_quoted(matcher.value)}" for matcher in matchers)
            return f"{name}{{{inside}}}" if inside else name
        case Range(selector, duration):
            return f"{to_text(selector)}[{duration}]"
        case Subquery(expr, duration, step):
            return f"{to_text(expr)}[{duration}:{step}]"
        case Modified(expr, offset, at):
            return to_text(expr) + (f" @ {at}" if at else "") + (f" offset {offset}" if offset else "")
        case Parens(expr):
            return f"({to_text(expr)})"
        case Call(function, args):
            return f"{function}({_listed(args)})"
        case Aggregation():
            return _aggregation(tree)
        case Unary(operator, expr):
            return f"{operator}{to_text(expr)}"
        case Binary():
            return f"{to_text(tree.left)} {_operator(tree)} {to_text(tree.right)}"
    raise TypeError(f"{type(tree).__name__} is not an expression")


def _aggregation(tree: Aggregation) -> str:
    grouping = tree.grouping
    clause = f" {'without' if grouping.is_without else 'by'} ({', '.join(grouping.labels)}) " if grouping else ""
    return f"{tree.operator}{clause}({_listed(tree.args)})"


def _operator(tree: Binary) -> str:
    parts = [tree.operator]
    if tree.is_bool:
        parts.append("bool")
    if matching := tree.matching:
        parts.append(f"{'on' if matching.is_on else 'ignoring'} ({', '.join(matching.labels)})")
        if matching.group:
            parts.append(f"{matching.group} ({', '.join(matching.include)})")
    return " ".join(parts)


def _listed(args: Iterable[Expr]) -> str:
    return ", ".join(map(to_text, args))


def _quoted(value: str) -> str:
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else character
