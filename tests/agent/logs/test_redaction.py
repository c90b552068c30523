"""No credential leaves the machine, however a line wraps it, and JSON stays JSON."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.config.log_settings import FileSettings
from deckwatch.config.log_settings_parts import RedactSettings
from deckwatch.logs.entry import Entry
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser
from deckwatch.logs.parsing.redaction import Redaction


def _redacted(text: str, **rule: Any) -> str:
    return Redaction((RedactSettings.model_validate({"kind": "token", **rule}),)).text(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('{"headers":{"Authorization":["Basic c2Vj"]}}', '{"headers":{"Authorization":["***"]}}'),
        (
            '{"headers": [["authorization", "Basic c2Vj"], ["a", "b"]]}',
            '{"headers": [["authorization", "***"], ["a", "b"]]}',
        ),
        ('[{"name": "Authorization", "value": "c2Vj"}]', '[{"name": "Authorization", "value": "***"}]'),
        ('{"password":null,"token":true,"pwd":""}', '{"password":null,"token":true,"pwd":""}'),
        ('{"token":482913, "n": 1.50}', '{"token":"***", "n": 1.50}'),
        ('{"password":{"raw":"S3","n":[1,null]},"a":1}', '{"password":{"raw":"***","n":["***",null]},"a":1}'),
        ('{"passwords":["a","b"],"password1":"c"}', '{"passwords":["***","***"],"password1":"***"}'),
        (r'{"pass\u0077ord":"S3"}', r'{"pass\u0077ord":"***"}'),
        (r'{"url":"https:\/\/user:S3@host\/"}', '{"url":"https://user:***@host/"}'),
        (r'{"body":"{\"password\":\"a\\\"b\",\"x\":\"\\\\\"}"}', r'{"body":"{\"password\":\"***\",\"x\":\"\\\\\"}"}'),
        ('{"msg":"é password=S3"}', '{"msg":"é password=***"}'),
        ('{"m": "x", "password": "S3", "password": "S4"}', '{"m": "x", "password": "***", "password": "***"}'),
    ],
)
def test_credentials_in_json_are_redacted_by_their_decoded_values_and_all_else_stays(text: str, clean: str) -> None:
    assert _redacted(text) == clean
    json.loads(clean)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("[(b'host', b'a'), (b'authorization', b'Basic c2Vj')]", "[(b'host', b'a'), (b'authorization', b'***')]"),
        ("{'password': {'raw': 'S3)'}, 'a': 1}", "{'password': ***, 'a': 1}"),
        ("{'password': None, 'token': False}", "{'password': None, 'token': False}"),
        ("\x1b[36mpassword\x1b[0m=\x1b[35mS3\x1b[0m a=1", "\x1b[36mpassword\x1b[0m=\x1b[35m***\x1b[0m a=1"),
        ("password=a,b;c)d]e&f\\g a=1", "password=*** a=1"),
        ("GET /?token=a,b&page=2 200", "GET /?token=***&page=2 200"),
        ("GET /?next=%2Fx%3Ftoken%3DS3 200", "GET /?next=%2Fx%3Ftoken%3D*** 200"),
        ("f(password=S3)", "f(password=***)"),
        ("login(user=a, password=S3), then", "login(user=a, password=***), then"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=S3/x", "Authorization: ***"),
        (r'body "{\"password\": \"a\\\"b\", \"n\": 1}"', r'body "{\"password\": \"***\", \"n\": 1}"'),
        ("columns ['user', 'password', 'email']", "columns ['user', 'password', 'email']"),
        ("the session id is set", "the session id is set"),
    ],
)
def test_credentials_in_text_are_redacted_up_to_their_ends(text: str, clean: str) -> None:
    assert _redacted(text) == clean


@pytest.mark.parametrize(
    ("rule", "text", "clean"),
    [
        ({"kind": "card"}, '{"card":4111111111111111}', '{"card":"***"}'),
        ({"kind": "email", "replacement": '"x"'}, '{"to":"bob@example.org"}', r'{"to":"\"x\""}'),
        ({"kind": "email"}, '{"bob@example.org": 1}', '{"***": 1}'),
        ({"kind": "pattern", "matches": "[0-9]{5}"}, '{"zip":12345,"a":"12345"}', '{"zip":"***","a":"***"}'),
        ({"kind": "pattern", "matches": '"zip":[^,}]*'}, '{"zip":12345}', "{***}"),
        ({"kind": "pattern", "matches": "S3"}, '{"a": "S3"}', '{"a": "***"}'),
    ],
)
def test_every_kind_of_rule_leaves_json_as_json_unless_a_pattern_is_about_its_form(
    rule: dict[str, Any], text: str, clean: str
) -> None:
    assert _redacted(text, **rule) == clean


def _entry(line: str, **settings: Any) -> Entry:
    rules = {"path": "x", "redact": [{"kind": "token"}], **settings}
    (entry,) = Parser(FileSettings.model_validate(rules), "x", {}, Counts()).feed([line.encode()], 0)
    return entry


def test_metadata_and_labels_are_redacted_by_their_names() -> None:
    line = '{"session_id":"S3","user":"bob","auth":{"token":"S3"},"api_key":"S3","level":"info"}'
    entry = _entry(
        line,
        metadata_fields=["session_id", "user", "auth", "auth.token"],
        label_fields={"level": "level", "key": "api_key"},
    )
    assert "S3" not in repr(entry)
    assert dict(entry.metadata) == {"session_id": "***", "user": "bob", "auth": '{"token":"***"}', "auth_token": "***"}
    assert dict(entry.labels)["key"] == "***"


SECRET = "Zq7xK"
NAMES = ("password", "Authorization", "api_key", "client-secret", "sessionId", "db_passwd", "X-Auth-Token", "pwd2")
_secrets = st.builds(
    lambda middle: f"{SECRET}{middle}{SECRET}",
    st.text(st.sampled_from("abc123 \t\"'\\,;:&=)({}[]/%$\u00e9\n@?"), max_size=6),
)
_plain = st.text(st.sampled_from("abc xyz,.'\"\\{}[]:\n\u00e9"), max_size=12)


def _hidden(secret: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    number = st.just(7700770077)
    return st.one_of(
        secret,
        number,
        st.lists(secret, min_size=1, max_size=3),
        st.dictionaries(st.sampled_from(["raw", "value", "a"]), secret, min_size=1, max_size=2),
        st.builds(lambda one: {"deep": [{"er": one}]}, secret),
    )


def _trees() -> st.SearchStrategy[Any]:
    leaf = st.one_of(st.none(), st.booleans(), st.integers(0, 99), _plain)
    named = st.dictionaries(st.sampled_from(NAMES), _hidden(_secrets), min_size=1, max_size=2)
    pair = st.builds(lambda name, secret: [name, secret], st.sampled_from(NAMES), _secrets)
    query = st.builds(lambda secret: f"GET /?a=1&token={quote(secret, safe='')}&b=2 200", _secrets)
    inner = st.one_of(named, pair, query, st.builds(json.dumps, named))
    return st.recursive(
        st.one_of(leaf, inner),
        lambda more: st.one_of(
            st.lists(more, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "msg", "user"]), more, max_size=3)
        ),
        max_leaves=8,
    )


def _escaped_names(text: str) -> str:
    return text.replace("pass", "p\\u0061ss").replace("oken", "\\u006fken").replace("/", "\\/")


@given(
    st.dictionaries(st.sampled_from(["a", "b", "msg"]), _trees(), min_size=1, max_size=3),
    st.sampled_from(
        [
            json.dumps,
            lambda value: json.dumps(value, ensure_ascii=False),
            lambda value: json.dumps(value, separators=(",", ":")),
            lambda value: _escaped_names(json.dumps(value)),
        ]
    ),
)
def test_no_secret_at_a_known_place_of_json_is_pushed_and_the_rest_is_unchanged(tree: Any, written: Any) -> None:
    entry = _entry(written(tree), metadata_fields=["msg", "a"], label_fields={"level": "level", "b": "b"})
    assert SECRET not in repr(entry)
    assert "7700770077" not in repr(entry)
    found = json.loads(entry.text)
    assert _shape(found) == _shape(tree)


def _shape(value: Any, name: str = "") -> Any:
    """The value with what is or was a secret replaced."""
    if isinstance(value, dict):
        return {key: _shape(inner, name or (key if key in NAMES else "")) for key, inner in value.items()}
    if isinstance(value, list):
        pair = len(value) == 2 and value[0] in NAMES
        return [_shape(inner, name or ("pair" if pair and index else "")) for index, inner in enumerate(value)]
    if (name and value is not None) or (
        isinstance(value, str) and any(one in value for one in (SECRET, "7700770077", "***"))
    ):
        return "secret"
    return value


_words = st.text(st.sampled_from("abcXYZ123-._/:@%,;)]}&$!?"), max_size=8)


@given(
    st.sampled_from(NAMES),
    st.builds(lambda middle: f"{SECRET}{middle}{SECRET}", _words),
    st.sampled_from(
        [
            "{name}={secret} user=bob",
            "level=info {name}={secret}",
            'level=info {name}="{secret}" user="bob b"',
            "\x1b[36m{name}\x1b[0m=\x1b[35m{secret}\x1b[0m a=1",
            "{name}: {secret}",
            "request {{'{name}': '{secret}', 'a': 1}}",
            "request {{'{name}': ['{secret}'], 'a': (1, 2)}}",
            "headers [(b'host', b'x'), (b'{name}', b'{secret}')]",
            'cut {{"{name}": {{"raw": "{secret}", "a',
            "Request(url='/?{name}={secret}', method='GET')",
            "curl -H '{name}: Bearer {secret}' http://x",
        ]
    ),
)
def test_no_secret_at_a_known_place_of_text_is_pushed(name: str, secret: str, template: str) -> None:
    line = template.format(name=name, secret=secret)
    entry = _entry(line, format="raw")
    assert SECRET not in entry.text, line
    for kept in ("user=bob", '"bob b"', "'a': 1", "method='GET'"):
        if template.format(name="", secret="").count(kept):
            assert kept in entry.text or "&" in secret or "," in secret, line


@pytest.mark.parametrize(
    ("rule", "item", "secret"),
    [
        ({"kind": "token"}, {"password": "x1"}, "x1"),
        ({"kind": "token"}, {"password": 17}, "17"),
        ({"kind": "token"}, "password=x1 \u00e9", "x1"),
        ({"kind": "card"}, {"c": "4111 1111 1111 1111"}, "4111 1111"),
    ],
)
def test_json_that_takes_too_long_stays_json_without_secrets(rule: dict[str, Any], item: object, secret: str) -> None:
    text = json.dumps([item] * (1024 * 1024 // len(json.dumps(item))))
    found = Redaction((RedactSettings(**rule),)).text(text)

    json.loads(found)
    assert secret in text
    assert secret not in found
