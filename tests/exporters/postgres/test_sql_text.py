"""Statements without literals, in any notation and truncated by the server anywhere."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deckwatch_exporters.postgres.sql_text import cut, fingerprint, one_line, redacted

#: Only literals contain these characters, so any of them in a redacted text is a leak.
SECRET, DIGIT = "Ж", "7"

_bodies = st.lists(
    st.sampled_from(
        [SECRET, SECRET * 3, DIGIT, "'", "\\", '"', "$", "$x$", "--", "/*", "*/", "\n", " ", ";", "(", "E'"]
    )
).map("".join)
_gaps = st.sampled_from(["\n", " \n ", "\r", "\n\n", " -- it's\n", "\n-- it's\n\t"])


def _plain(body: str) -> str:
    return "'" + body.replace("'", "''") + "'"


def _escaped(body: str, quote: str) -> str:
    return "'" + body.replace("\\", "\\\\").replace("'", quote) + "'"


_plain_strings = st.builds(
    "{}{}".format, st.sampled_from(["", "b", "B", "x", "X", "n", "N", "U&", "u&"]), _bodies.map(_plain)
)
_escape_strings = st.builds(
    lambda letter, parts, gap: letter + gap.join(parts),
    st.sampled_from(["e", "E"]),
    st.lists(st.builds(_escaped, _bodies, st.sampled_from(["''", "\\'"])), min_size=1, max_size=3),
    _gaps,
)


def _dollar_quoted(tag: str, body: str) -> str:
    return f"${tag}$" + (body + f"${tag}$" if f"${tag}$" not in f"{body}${tag}" else f"${tag}$")


_dollar_strings = st.builds(_dollar_quoted, st.sampled_from(["", "t", "tag_1", "é", "𝄞"]), _bodies)
_numbers = st.sampled_from(["7", "77.7", ".7", "7.", "7e+7", "7E7", "0x7", "0o7", "7_777"])
_literals = st.one_of(_plain_strings, _escape_strings, _dollar_strings, _numbers)
_rest = st.sampled_from(
    ["select", "from", "a", "e", "u", '"Or""ders"', '"it\'s"', '"$$"', "$1", "$12", "(", ")", ",", "::text", "=", "-",
     "-- it's $$ \"one\n", "/* it's /* $$ */ \" */", "a$b$", "é", ";", "*", "/", "||"]
)  # fmt: skip
_spaces = st.sampled_from([" ", "\n", "\t ", "/**/", "--\n", "-- x\r"])


@st.composite
def statements(draw: st.DrawFn) -> str:
    """Literals and other tokens; an E string is continued only as in `_escape_strings`."""
    sql, follows_escape_string = "", False
    for part in draw(st.lists(st.one_of(_literals, _rest), max_size=12)):
        if follows_escape_string and part.startswith("'"):
            sql += ", "  # with a line break between them they would be one string with backslash escapes
        sql += part + draw(_spaces)
        if not part.startswith("--"):
            follows_escape_string = part[:2] in ("e'", "E'")
    return sql


@given(statements())
@example("e''\n'\\' '--Ж' ")
def test_every_literal_is_removed(sql: str) -> None:
    shown = redacted(sql)

    assert SECRET not in shown
    assert DIGIT not in shown


@given(statements(), st.integers(0, 400))
@example("select E'it\\'s Ж'", len("select E'it\\"))
@example("select E'a'\n'it\\'s Ж'", len("select E'a'\n'it\\'s Ж"))
@example("select $𝄞$ Ж $𝄞$", len("select $𝄞$ Ж $"))
def test_every_literal_is_removed_from_a_truncated_text(sql: str, length: int) -> None:
    shown = redacted(sql[:length])

    assert SECRET not in shown
    assert DIGIT not in shown


@given(st.one_of(statements(), st.text(), st.text(alphabet="aeEbxuU&$'\"\\-/*0.1 \n\r?")))
def test_redacting_again_changes_nothing(sql: str) -> None:
    shown = redacted(sql)

    assert redacted(shown) == shown


@given(st.text(alphabet=st.characters(exclude_categories=())), st.integers(0, 50))
def test_any_text_is_accepted(sql: str, size: int) -> None:
    """Including surrogates and control characters."""
    assert len(fingerprint(sql)) == 16
    assert isinstance(one_line(sql), str)
    assert len(cut(redacted(sql), size).encode("utf-8", "replace")) <= size


@given(statements())
def test_without_redaction_every_literal_is_kept(sql: str) -> None:
    assert one_line(sql).count(SECRET) == sql.count(SECRET)


def test_a_comment_after_a_continued_escape_string_is_removed() -> None:
    sql = "e''\n'\\' '--Ж' "  # the backslash escapes the first quote, and the second one ends the string

    assert one_line(sql) == "e''\n'\\' '"
    assert redacted(sql) == "?"


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT * FROM t WHERE a = 'x' AND b = 12", "SELECT * FROM t WHERE a = ? AND b = ?"),
        ("ALTER ROLE app PASSWORD 'hunter2'", "ALTER ROLE app PASSWORD ?"),
        ("ALTER ROLE app PASSWORD $$hunter2$$", "ALTER ROLE app PASSWORD ?"),
        ("ALTER ROLE app PASSWORD E'hunter\\'2'", "ALTER ROLE app PASSWORD ?"),
        ("CREATE USER x PASSWORD 'hunt", "CREATE USER x PASSWORD ?"),
        ("SELECT $1, $2", "SELECT $1, $2"),
        ('SELECT "a""1", t2.c3 FROM t2', 'SELECT "a""1", t2.c3 FROM t2'),
        ("SELECT 1 -- 'secret'\n, 2", "SELECT ? , ?"),
        ("SELECT /* a /* b */ 'c' */ 1", "SELECT ?"),
        ("SELECT\n\t1\n", "SELECT ?"),
        ("SELECT 1e'x\\' y'", "SELECT ??"),
        ("SELECT a$b$, c", "SELECT a$b$, c"),
        ("SELECT -- it\r'a\nb'", "SELECT ?"),
        ("", ""),
    ],
)
def test_literals_are_replaced_and_comments_are_removed(sql: str, shown: str) -> None:
    assert redacted(sql) == shown


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select * from t where a = 1", "SELECT *  FROM t\nWHERE a = $1"),
        ("select * from t where a in (1, 2, 3)", "select * from t where a in ($1,$2)"),
        ("insert into t values (1, 'a'), (2, 'b')", "insert into t values ($1, $2)"),
        ("select 'it''s'", "select E'it\\'s' -- so it is"),
    ],
)
def test_statements_that_differ_only_in_literals_have_the_same_fingerprint(one: str, other: str) -> None:
    assert fingerprint(one) == fingerprint(other)


def test_statements_that_differ_in_other_tokens_have_different_fingerprints() -> None:
    texts = ["select a from t", "select b from t", "select a from u", 'select "A" from t', "select a, b from t"]

    assert len({fingerprint(text) for text in texts}) == len(texts)


@given(st.text(), st.integers(0, 40))
def test_a_text_is_truncated_at_a_character_boundary(text: str, size: int) -> None:
    text = text.encode("utf-8", "replace").decode()

    assert text.startswith(cut(text, size))
    assert len(cut(text, size).encode()) <= size


@pytest.mark.parametrize(
    "unit",
    ["a, ", "'a', ", "'a''", "e'\\''", "$$", "$a", "$a$ ", "/*", "/**/", "--\n", "((?,", "(1, 2), ", "1", "1.", '"a""',
     "E'a'\n", " "],
)  # fmt: skip
def test_redaction_time_is_linear_in_the_length(unit: str) -> None:
    """Takes a second at most; with quadratic time, a million characters would take hours."""
    text = unit * (1_000_000 // len(unit))

    assert len(fingerprint(text)) == 16
