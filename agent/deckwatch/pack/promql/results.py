"""Whether an expression can have a result while some metrics have no series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.pack.promql.tree import Binary, Call, Expr, Selector

if TYPE_CHECKING:
    from collections.abc import Collection


def can_have_result(tree: Expr, missing: Collection[str]) -> bool:
    """False if the result is empty because the `missing` metrics have no series."""
    match tree:
        case Selector():
            return tree.metric not in missing
        case Call("absent" | "absent_over_time" | "scalar" | "vector"):
            return True
        case Binary("or", left, right):
            return can_have_result(left, missing) or can_have_result(right, missing)
        case Binary("unless", left, _):
            return can_have_result(left, missing)
    return all(can_have_result(child, missing) for child in tree.children())
