"""The Redis protocol: every type of both versions, split anywhere, and malformed input."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deckwatch_exporters.clients.redis.resp import (
    LARGEST_EXCHANGE,
    ProtocolError,
    Reader,
    ReplyError,
    mapping_of,
    number_of,
    pack,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch_exporters.clients.redis.resp import Reply


def _read(*pieces: bytes) -> list[Reply]:
    reader = Reader()
    found: list[Reply] = []
    for piece in pieces:
        found.extend(reader.feed(piece))
    return found


def _plain(replies: Iterable[Reply]) -> list[Any]:
    """Return a comparable value: an error reply as a pair."""
    return [
        ("error", it.message) if isinstance(it, ReplyError) else _plain(it) if isinstance(it, list) else it
        for it in replies
    ]


#: By the bytes of one reply.
REPLIES: dict[bytes, Any] = {
    b"+OK\r\n": b"OK",
    b"+\r\n": b"",
    b"-ERR unknown command\r\n": ("error", "ERR unknown command"),
    b"-\xff\r\n": ("error", "�"),
    b":0\r\n": 0,
    b":-1\r\n": -1,
    b":9223372036854775807\r\n": 2**63 - 1,
    b"$0\r\n\r\n": b"",
    b"$5\r\nhello\r\n": b"hello",
    b"$8\r\n\r\n+OK\r\n\xff\r\n": b"\r\n+OK\r\n\xff",
    b"$-1\r\n": None,
    b"*0\r\n": [],
    b"*-1\r\n": None,
    b"*3\r\n:1\r\n$1\r\na\r\n*1\r\n-NO way\r\n": [1, b"a", [("error", "NO way")]],
    # protocol 3
    b"_\r\n": None,
    b",3.25\r\n": 3.25,
    b",-1e3\r\n": -1000.0,
    b",inf\r\n": math.inf,
    b",-inf\r\n": -math.inf,
    b"#t\r\n": True,
    b"#f\r\n": False,
    b"=7\r\ntxt:abc\r\n": b"abc",
    b"(3492890328409238509324850943850943825024385\r\n": b"3492890328409238509324850943850943825024385",
    b"%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n#t\r\n": {b"a": 1, b"b": {b"c": True}},
    b"%0\r\n": {},
    b"~2\r\n+a\r\n+b\r\n": [b"a", b"b"],
    # a string that contains what looks like the header of a large array or string
    b"$14\r\nab\r\n*999999999\r\n": b"ab\r\n*999999999",
    b"+*999999999\r\n": b"*999999999",
    b"$12\r\n$1234567890\n\r\n": b"$1234567890\n",
}
STREAM = b"".join(REPLIES)
PUSH = b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n"


@pytest.mark.parametrize("wire", REPLIES, ids=repr)
def test_every_type_is_parsed(wire: bytes) -> None:
    assert _plain(_read(wire)) == [REPLIES[wire]]


@pytest.mark.parametrize("wire", REPLIES, ids=repr)
def test_a_reply_split_anywhere_is_parsed_completely(wire: bytes) -> None:
    for at in range(len(wire) + 1):
        assert _plain(_read(wire[:at], wire[at:])) == [REPLIES[wire]]


@pytest.mark.parametrize("wire", REPLIES, ids=repr)
def test_an_incomplete_reply_is_not_returned(wire: bytes) -> None:
    for at in range(len(wire)):
        assert _read(wire[:at]) == []


def test_replies_received_byte_by_byte_keep_their_order() -> None:
    assert _plain(_read(*(STREAM[at : at + 1] for at in range(len(STREAM))))) == list(REPLIES.values())


def test_replies_received_together_keep_their_order() -> None:
    assert _plain(_read(STREAM)) == list(REPLIES.values())


def test_push_messages_are_not_replies_to_commands() -> None:
    for at in range(len(PUSH) + 1):
        assert _read(b":1\r\n" + PUSH[:at], PUSH[at:] + b":2\r\n") == [1, 2]


def test_nan_is_parsed_but_is_not_a_number() -> None:
    (reply,) = _read(b",nan\r\n")
    assert isinstance(reply, float)
    assert math.isnan(reply)
    assert number_of(reply) is None


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"H",  # immediately, not at the end of the line
        b"\x16\x03\x01",  # TLS
        b"\r\n",
        b":\r\n",
        b":one\r\n",
        b":1.5\r\n",
        b"$\r\n",
        b"$?\r\n",  # a streamed string, which no server sends
        b"$3\r\nhello\r\n",
        b"*?\r\n",
        b"*1\r\nX\r\n",
        b"%x\r\n",
        b",three\r\n",
        b"(1e3\r\n",
        b"=x\r\n",
        b"!x\r\n",
        b"|x\r\n",
        b":+7\r\n",
        b":9223372036854775808\r\n",
        b"!9\r\nERR \r\nbad\r\n",
        b"#yes\r\n",
        b"%1\r\n*1\r\n:1\r\n:2\r\n",  # a list as a key
        b"*2\r\n:1\r\nfoo",
    ],
    ids=repr,
)
def test_other_protocols_are_reported(wire: bytes) -> None:
    with pytest.raises(ProtocolError, match="not the Redis protocol"):
        _read(wire)


#: Headers that announce more than any reply contains.
OVERSIZED = [
    b"*100000\r\n",
    b"*4294967295\r\n",
    b"*9999999999\r\n",
    b"%100000\r\n",
    b"~100000\r\n",
    b">100000\r\n",
    b"$100000000\r\n",
    b"$%b\r\n" % (b"9" * 5000),
    b"=100000000\r\n",
]


@pytest.mark.parametrize("wire", OVERSIZED, ids=lambda wire: repr(wire[:15]))
@pytest.mark.parametrize("before", [b"", b"*2\r\n$4\r\na\r\nb\r\n", b"+OK\r\n", b">1\r\n+x\r\n"], ids=repr)
def test_an_oversized_header_is_rejected(before: bytes, wire: bytes) -> None:
    with pytest.raises(ProtocolError, match="too large"):
        _read(before + wire)


@pytest.mark.parametrize("wire", [wire for wire in OVERSIZED if wire[:1] in b"*%~>" and len(wire) < 20], ids=repr)
def test_an_oversized_header_split_anywhere_is_rejected(wire: bytes) -> None:
    whole = b"*2\r\n:1\r\n" + wire
    for at in range(len(whole)):
        with pytest.raises(ProtocolError, match="too large"):
            _read(whole[:at], whole[at:])
    with pytest.raises(ProtocolError, match="too large"):
        _read(*(whole[at : at + 1] for at in range(len(whole))))


def test_nested_headers_cannot_exhaust_memory() -> None:
    """Each garbage collection traverses what an unfinished reply has allocated."""
    with pytest.raises(ProtocolError, match="too large"):
        _read(b"*1\r\n*99999\r\n*1000000000\r\n")


@pytest.mark.parametrize(
    "wire",
    [
        b":%b\r\n" % (b"9" * 5000),
        b"*1\r\n" * 100_000,
        b"|1\r\n" * 100_000,
        b"*1\r\n|1\r\n" * 100_000,
        b"%1\r\n+a\r\n" * 100_000,
    ],
    ids=lambda wire: repr(wire[:12]),
)
def test_deeply_nested_input_cannot_overflow_the_stack(wire: bytes) -> None:
    with pytest.raises(ProtocolError, match="not the Redis protocol"):
        _read(wire)


@pytest.mark.parametrize("start", [b"+", b"$99999999\r\n", b"*99999\r\n"], ids=repr)
def test_an_exchange_fails_if_its_replies_are_too_large(start: bytes) -> None:
    reader = Reader()
    piece = b"*0\r\n" * 65_536 if start[:1] == b"*" else b"x" * 262_144
    reader.feed(start)
    for _ in range(LARGEST_EXCHANGE // len(piece) - 1):
        reader.feed(piece)
    with pytest.raises(ProtocolError, match="larger than"):
        reader.feed(piece)


def test_the_size_limit_applies_to_each_exchange() -> None:
    reader = Reader()
    piece = b"$%d\r\n%b\r\n" % (LARGEST_EXCHANGE - 20, b"x" * (LARGEST_EXCHANGE - 20))
    for _ in range(2):
        reader.begin_exchange()
        assert len(reader.feed(piece)) == 1


def test_replies_nested_as_deeply_as_servers_send_are_parsed() -> None:
    (reply,) = _read(b"*1\r\n" * 32 + b":1\r\n")
    for _ in range(32):
        assert isinstance(reply, list)
        (reply,) = reply
    assert reply == 1


@given(st.binary(max_size=60))
@example(b"|0\r\n*1\r\n-")
def test_any_input_is_parsed_or_reported_as_an_error(data: bytes) -> None:
    try:
        replies = _read(data)
    except ProtocolError as wrong:
        assert str(wrong).startswith("not the Redis protocol")  # noqa: PT017  it may or may not be raised
    else:
        assert len(replies) <= len(data) // 3


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=20), st.floats(allow_nan=False)
)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def _wire(value: Any) -> bytes:
    match value:
        case None:
            return b"_\r\n"
        case bool():
            return b"#t\r\n" if value else b"#f\r\n"
        case int():
            return b":%d\r\n" % value
        case float():
            return b",%b\r\n" % repr(value).encode()
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case _:
            return b"*%d\r\n" % len(value) + b"".join(map(_wire, value))


@given(values=st.lists(_VALUES, max_size=4), cuts=st.lists(st.integers(0, 300), max_size=6))
def test_any_reply_is_parsed_however_it_is_split(values: list[Any], cuts: list[int]) -> None:
    wire = b"".join(map(_wire, values))
    places = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    pieces = [wire[start:end] for start, end in pairwise(places)]
    assert _read(*pieces) == values


@given(st.lists(st.one_of(st.binary(max_size=20), st.text(max_size=20), st.integers()), min_size=1, max_size=5))
def test_an_encoded_command_parses_back_to_its_words(words: list[bytes | str | int]) -> None:
    expected = [word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape") for word in words]
    assert _read(pack(*words)) == [expected]


def test_a_binary_name_is_sent_as_its_original_bytes() -> None:
    assert _read(pack("TYPE", b"\xff".decode("utf-8", "surrogateescape"))) == [[b"TYPE", b"\xff"]]


@pytest.mark.parametrize(
    ("message", "is_denied", "is_unknown", "is_transient"),
    [
        ("NOPERM this user has no permissions to run the 'info' command", True, False, False),
        ("ERR unknown command 'HELLO'", False, True, False),
        ("ERR Unknown subcommand or wrong number of arguments for 'HISTOGRAM'", False, True, False),
        ("ERR wrong number of arguments for 'latency' command", False, True, False),
        ("ERR syntax error", False, True, False),
        ("LOADING Redis is loading the dataset in memory", False, False, True),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", False, False, True),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", False, False, True),
        ("TRYAGAIN Multiple keys request during rehashing of slot", False, False, True),
        ("CLUSTERDOWN The cluster is down", False, False, True),
        ("BUSYGROUP Consumer Group name already exists", False, False, False),
        ("", False, False, False),
    ],
)
def test_errors_are_classified_as_permission_version_or_transient(
    message: str, is_denied: bool, is_unknown: bool, is_transient: bool
) -> None:
    error = ReplyError(message)
    assert (error.is_denied, error.is_unknown, error.is_transient) == (is_denied, is_unknown, is_transient)
    assert error.code == message.split(" ")[0]


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        (7, 7.0),
        (1.5, 1.5),
        (b"12.5", 12.5),
        (b"-3", -3.0),
        (b"inf", None),
        (b"", None),
        (b"nan", None),
        (b"twelve", None),
        (math.nan, None),
        (True, None),
        (None, None),
        ([1], None),
        ({b"a": 1}, None),
        (ReplyError("ERR 1"), None),
        (10**400, None),
    ],
    ids=lambda it: repr(it)[:20],
)
def test_only_numbers_are_parsed_as_numbers(reply: Reply, number: float | None) -> None:
    assert number_of(reply) == number


def test_a_mapping_is_built_from_pairs_and_empty_without_pairs() -> None:
    assert mapping_of([b"a", 1, b"b", [b"c", 2]]) == {"a": 1, "b": [b"c", 2]}
    assert mapping_of([b"a", 1, b"left over"]) == {"a": 1}
    assert mapping_of({b"a": 1, 2: [b"c", 2]}) == {"a": 1, "": [b"c", 2]}
    others: list[Reply] = [None, b"a", 1, ReplyError("ERR"), []]
    for reply in others:
        assert mapping_of(reply) == {}


def test_only_strings_give_text_and_invalid_bytes_are_replaced() -> None:
    assert text_of("Grüße".encode()) == "Grüße"
    assert text_of(b"a\xffb") == r"a\xffb"
    others: list[Reply] = [None, 1, [b"a"], ReplyError("ERR")]
    for reply in others:
        assert text_of(reply) == ""
