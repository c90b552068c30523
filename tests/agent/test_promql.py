"""PromQL: parsing, printing, and the replacement of recorded series."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.pack.promql import (
    PromqlError,
    RewriteError,
    names_in,
    parse,
    seconds,
    to_text,
    without_recorded,
)
from deckwatch.pack.promql.tree import Expr, Parens
from services import installed

if TYPE_CHECKING:
    from pathlib import Path

SPACE = st.sampled_from(["", " ", "\n", " # a comment \" ' ( \n"])
LABEL = st.sampled_from(["job", "instance", "le", "by", "on", "bool", "offset", "inf", "_x9"])
METRIC = st.sampled_from(["up", "node_load1", "a:b:c", ":a", "sum", "by", "Offset", "start", "topk", "information"])
NUMBER = st.sampled_from(["0", "1", "1.", ".5", "1e3", "1E-9", "0x1F", "Inf", "nan", "123456789012345678901"])
DURATION = st.sampled_from(["5m", "1h30m", "90s", "500ms", "1y2w3d4h5m6s7ms", "0s"])
TEXT = st.text(st.sampled_from("ab.*|\\\"'`{}[]()#\n\té🐘\x00$"), max_size=6)


OPERATOR = st.sampled_from((*"+-*/%^<>", "==", "!=", "<=", ">=", "and", "or", "unless", "atan2", "AND"))
PARAMETERS = (("sum", ""), ("Max", ""), ("topk", "3, "), ("count_values", '"a", '))


@st.composite
def string(draw: st.DrawFn) -> str:
    value = draw(TEXT)
    quote = draw(st.sampled_from("\"'`"))
    if quote == "`":
        return f"`{value.replace('`', '')}`"
    escaped = value.replace("\\", "\\\\").replace(quote, "\\" + quote).replace("\n", "\\n")
    return quote + escaped.replace("a", draw(st.sampled_from(["a", "\\x61", "\\141", "\\u0061", "\\xff"]))) + quote


@st.composite
def labels(draw: st.DrawFn) -> str:
    return f"{draw(SPACE)}({', '.join(draw(st.lists(LABEL, max_size=3)))}{draw(SPACE)})"


@st.composite
def selector(draw: st.DrawFn) -> str:
    matchers = [
        f"{draw(LABEL)}{draw(SPACE)}{draw(st.sampled_from(['=', '!=', '=~', '!~']))}{draw(SPACE)}{draw(string())}"
        for _ in range(draw(st.integers(0, 2)))
    ]
    name = draw(METRIC | st.just("")) if matchers else draw(METRIC)
    if not matchers and draw(st.integers(0, 1)):
        return name
    return f"{name}{draw(SPACE)}{{{','.join(matchers)}{',' * draw(st.integers(0, len(matchers[:1])))}}}"


@st.composite
def modified(draw: st.DrawFn, inner: str) -> str:
    offset = f" offset{draw(st.sampled_from([' ', ' -', '+']))}{draw(DURATION)}"
    at = f"{draw(SPACE)}@{draw(SPACE)}{draw(st.sampled_from(['start()', 'end( )', '1', '-2.5', '1.6e9']))}"
    return inner + draw(st.sampled_from(["", offset, at, offset + at, at + offset]))


@st.composite
def vector(draw: st.DrawFn) -> str:
    inner = draw(selector())
    if draw(st.booleans()):
        inner += f"{draw(SPACE)}[{draw(SPACE)}{draw(DURATION)}]"
    return draw(modified(inner))


@st.composite
def larger(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    space, one = draw(SPACE), draw(inner)
    match draw(st.integers(0, 6)):
        case 0:
            return f"({space}{one})"
        case 1:
            return f"{draw(st.sampled_from('+-'))}{space}{one}"
        case 2:
            function = draw(st.sampled_from(["rate", "f", "time", "inform"]))
            return f"{function}{space}({', '.join([one] * draw(st.integers(0, 2)))})"
        case 3:
            subquery = f"({one})[{draw(DURATION)}{space}:{draw(DURATION | st.just(''))}]"
            return draw(modified(subquery))
        case 4:
            clause = f" {draw(st.sampled_from(['by', 'without', 'BY']))}{draw(labels())}"
            name, parameter = draw(
                st.sampled_from([("sum", ""), ("Max", ""), ("topk", "3, "), ("count_values", '"a", ')])
            )
            args = f"({parameter}{one})"
            return name + draw(st.sampled_from([args, clause + args, args + clause]))
        case _:
            operator = draw(
                st.sampled_from(
                    [
                        "+",
                        "-",
                        "*",
                        "/",
                        "%",
                        "^",
                        "==",
                        "!=",
                        "<",
                        "<=",
                        ">",
                        ">=",
                        "and",
                        "or",
                        "unless",
                        "atan2",
                        "AND",
                    ]
                )
            )
            matching = draw(st.sampled_from(["", f" on{draw(labels())}", f" ignoring{draw(labels())}"]))
            if operator in ("==", "!=", "<", "<=", ">", ">=") and draw(st.booleans()):
                matching = " bool" + matching
            if matching.lstrip().startswith(("on", "ignoring")) and operator.lower() not in ("and", "or", "unless"):
                matching += draw(st.sampled_from(["", " group_left", f" group_right{draw(labels())}"]))
            right = draw(inner)
            # A following parenthesis would start the label list.
            brackets = "()" if matching.endswith("left") and right.startswith("(") else ""
            return f"{one} {operator}{matching}{brackets} {right}"


EXPRESSIONS = st.recursive(vector() | NUMBER | string(), larger, max_leaves=8)


@given(EXPRESSIONS)
def test_a_printed_expression_parses_to_the_same_tree_and_prints_the_same(text: str) -> None:
    tree = parse(text)
    printed = to_text(tree)
    assert parse(printed) == tree
    assert to_text(parse(printed)) == printed


@given(st.text(st.sampled_from("ab 1.5m:[]{}()=~!<>+-^,@#\"'\\`\n$é"), max_size=30) | st.text())
def test_any_other_text_raises_only_a_syntax_error_with_its_position(text: str) -> None:
    try:
        tree = parse(text)
    except PromqlError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert parse(to_text(tree)) == tree
    assert not refusal or refusal.startswith("line ")


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("-x^2 * 3", "-x ^ 2 * 3"),
        ("sum(x)by(a,)>bool 1", "sum by (a) (x) > bool 1"),
        ("a*on(x)group_left b", "a * on (x) group_left () b"),
        ("x offset -5m @ 12.50", "x @ 12.5 offset -5m"),
        ("x{a='b\"c',}[5m:]", 'x{a="b\\"c"}[5m:]'),
        ("topk without(a)(3, rate(x[5m]))", "topk without (a) (3, rate(x[5m]))"),
        ("1e3 + 0x1F + inf", "1000 + 31 + Inf"),
    ],
)
def test_an_expression_is_printed_as_prometheus_does(text: str, printed: str) -> None:
    assert to_text(parse(text)) == printed


def test_operators_have_the_same_precedence_as_in_prometheus() -> None:
    for text, explicit in [
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a ^ b ^ c", "a ^ (b ^ c)"),
        ("-a ^ b", "-(a ^ b)"),
        ("-a * b", "(-a) * b"),
        ("a ^ -b * c", "(a ^ (-b)) * c"),
        ("a or b and c unless d", "a or ((b and c) unless d)"),
        ("a and b > c + d", "a and (b > (c + d))"),
    ]:
        assert without_parens(parse(text)) == without_parens(parse(explicit)), text


def without_parens(tree: Expr) -> Expr:
    return without_parens(tree.expr) if isinstance(tree, Parens) else tree.map_children(without_parens)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "line 1, column 1: expected a metric, a function, a number or '(', found the end"),
        ("sum(x\n  y)", "line 2, column 3: expected ',' or ')', found 'y'"),
        ("rate(x)[5m]", "line 1, column 8: a range is possible after a selector only; a subquery is [5m:]"),
        ("(x) offset 5m", "line 1, column 5: offset is possible after a selector, a range and a subquery only"),
        ("x offset 1m offset 2m", "line 1, column 13: a second offset"),
        ('x{a="b}', "line 1, column 5: the string has no end"),
        ('x{a="\\y"}', "line 1, column 6: invalid escape sequence \\y"),
        ("x[5 m]", "line 1, column 3: expected a duration, found '5'"),
        ("x[1m1h]", "line 1, column 3: expected a number or a duration such as 90s or 1h30m"),
        ("a + bool b", "line 1, column 3: bool is not possible with '+', only with comparisons"),
        ("topk(x)", "line 1, column 1: topk needs 2 arguments, not 1"),
        ("{}", "line 1, column 1: a selector needs a metric or a matcher"),
        ("x $ y", "line 1, column 3: unexpected character '$'"),
        ("(" * 1000, "line 1, column 101: the expression is nested too deeply, or has too many operators"),
        ("+" * 1000, "line 1, column 101: the expression is nested too deeply, or has too many operators"),
        ("x+" * 1000, "line 1, column 199: the expression is nested too deeply, or has too many operators"),
    ],
)
def test_errors_contain_their_position(text: str, line: str) -> None:
    with pytest.raises(PromqlError) as refused:
        parse(text)
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("500ms", 0.5)]
)
def test_durations_are_parsed_as_in_prometheus(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "1.5h", "10 m", "5x", "5m1h", "5m5m"])
def test_an_invalid_duration_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)


def test_only_metric_names_are_found() -> None:
    expr = """sum by (le, b) (rate(a_total{x="}", y=~"b"}[5m] offset 10m)) / on (c) group_left () d:e:f > bool 1e3
    or vector(0) unless max without (z) (g) == Inf or {__name__="h", i="j"} or {__name__=~"k.*"} # comment l"""
    assert names_in(expr) == {"a_total", "d:e:f", "g", "h"}


def test_recorded_series_are_also_replaced_in_ranges_and_with_offsets() -> None:
    recorded = {"a:b": "rate(x[5m])", "a:b:min": "min_over_time(a:b[15m])", "c:d": "x / y", "c:e": "c:d > 1"}

    for expr, expected in [
        ("a:b > 1", "rate(x[5m]) > 1"),
        ('x{l="a:b"} # a:b', 'x{l="a:b"}'),
        ("2 * c:e", "2 * ((x / y) > 1)"),
        ('{__name__="c:d"}', "(x / y)"),
        ("max_over_time(a:b[1h] offset 2h)", "max_over_time(rate(x[5m])[1h:15s] offset 2h)"),
        ("max_over_time(c:d[1h:1m] @ end())", "max_over_time((x / y)[1h:1m] @ end())"),
        (
            "a:b:min offset 45m",
            "last_over_time(min_over_time(rate(x[5m])[15m:15s])[15s:15s] offset 45m)",
        ),
        ('a:b{l="m"}', '(rate(x[5m]) and on (l) label_replace(vector(1), "l", "m", "", ""))'),
    ]:
        assert without_recorded(expr, recorded, "15s") == expected


def test_recursive_recording_rules_and_name_patterns_are_rejected() -> None:
    with pytest.raises(RewriteError, match=r"a:b is recorded from itself \(a:b -> c:d -> a:b\)"):
        without_recorded("a:b", {"a:b": "c:d + 1", "c:d": "rate(a:b[5m])"}, "15s")
    with pytest.raises(RewriteError, match="a:b is recorded, and has a matcher on __name__"):
        without_recorded('a:b{__name__!="c"}', {"a:b": "x"}, "15s")


@pytest.mark.parametrize(
    ("matchers", "kept"),
    [
        ('l="one"', ["one"]),
        ('l!="one"', ["", "$1", "two"]),
        ('l=~"one|t.*"', ["one", "two"]),
        ('l!~"one|t.*"', ["", "$1"]),
        ('l=""', [""]),
        ('l!=""', ["$1", "one", "two"]),
        ('l=~"o?"', [""]),
        ('l="$1"', ["$1"]),
        ('l=~"o.*|t.*",l!="two",j="k"', ["one"]),
    ],
)
def test_matchers_on_a_recorded_series_select_the_same_series_as_in_prometheus(
    tmp_path: Path, matchers: str, kept: list[str]
) -> None:
    recorded = {"r:x": "x + y"}
    both = [f"r:x{{{matchers}}}", without_recorded(f"r:x{{{matchers}}}", recorded, "15s")]
    (tmp_path / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "g", "rules": [{"record": "r:x", "expr": recorded["r:x"]}]}]})
    )
    series = [(value, f'j="k",l="{value}"' if value else 'j="k"') for value in ("", "$1", "one", "two")]
    case = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": f"{name}{{{labels}}}", "values": "1+0x20"} for name in "xy" for _, labels in series
                ],
                "promql_expr_test": [
                    {
                        "expr": expr,
                        "eval_time": "5m",
                        "exp_samples": [
                            {"labels": f"{'r:x' if expr == both[0] else ''}{{{labels}}}", "value": 2}
                            for value, labels in series
                            if value in kept
                        ],
                    }
                    for expr in both
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(case))
    done = subprocess.run(
        [installed("promtool"), "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
