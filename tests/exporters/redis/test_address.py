"""Server addresses: every form of URL, and errors for invalid ones, which never contain the password."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deckwatch_exporters.clients.redis.address import Address, parse_address

PASSWORD = "hunter2-x"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", {"hosts": (("cache", 6379),)}),
        ("cache", {"hosts": (("cache", 6379),)}),
        ("cache:6380", {"hosts": (("cache", 6380),)}),
        ("redis://:6380", {"hosts": (("localhost", 6380),)}),
        ("redis://127.0.0.1:6380/3", {"hosts": (("127.0.0.1", 6380),), "db": 3}),
        ("redis://cache/?db=4", {"hosts": (("cache", 6379),), "db": 4}),
        ("redis://cache/2?db=4", {"hosts": (("cache", 6379),), "db": 2}),
        ("redis://[::1]", {"hosts": (("::1", 6379),)}),
        ("redis://[fe80::1]:6380/1", {"hosts": (("fe80::1", 6380),), "db": 1}),
        ("valkey://cache", {"hosts": (("cache", 6379),)}),
        ("REDIS://cache", {"hosts": (("cache", 6379),)}),
        ("rediss://cache:6380", {"hosts": (("cache", 6380),), "tls": True}),
        ("valkeys://cache", {"hosts": (("cache", 6379),), "tls": True}),
        ("redis://me:pw@cache", {"hosts": (("cache", 6379),), "username": "me", "password": "pw"}),
        ("redis://:pw@cache", {"hosts": (("cache", 6379),), "password": "pw"}),
        ("redis://me@cache", {"hosts": (("cache", 6379),), "username": "me"}),
        ("redis://me:p%2F%40%3a%25@cache", {"hosts": (("cache", 6379),), "username": "me", "password": "p/@:%"}),
        ("redis://:p@ss:word@cache", {"hosts": (("cache", 6379),), "password": "p@ss:word"}),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        ("unix://localhost/run/redis.sock", {"path": "/run/redis.sock"}),
        ("unix:///run/a@b.sock", {"path": "/run/a@b.sock"}),
        ("redis+unix:///run/a%23b.sock", {"path": "/run/a#b.sock"}),
        ("unix://me:pw@/run/redis.sock", {"path": "/run/redis.sock", "username": "me", "password": "pw"}),
        ("redis+sentinel://s1/mymaster", {"hosts": (("s1", 26379),), "service": "mymaster"}),
        (
            "redis+sentinel://me:pw@[::1]:3,s1:1,s2/mymaster/5",
            {
                "hosts": (("::1", 3), ("s1", 1), ("s2", 26379)),
                "service": "mymaster",
                "db": 5,
                "username": "me",
                "password": "pw",
            },
        ),
        ("redis+sentinel://s1/mymaster?db=5", {"hosts": (("s1", 26379),), "service": "mymaster", "db": 5}),
        ("rediss+sentinel://s1/mymaster", {"hosts": (("s1", 26379),), "service": "mymaster", "tls": True}),
    ],
)
def test_every_form_of_url_is_parsed(url: str, expected: dict[str, Any]) -> None:
    assert parse_address(url) == Address(**expected)


@pytest.mark.parametrize(
    "url",
    [
        "http://:{}@cache",
        "://:{}@cache",
        "redis://:{}@cache:port",
        "redis://:{}@cache:0",
        "redis://:{}@cache:65536",
        "redis://:{}@cache:" + "9" * 5000,
        "redis://:{}@cache:1:2",
        "redis://:{}@",
        "redis://:{}@[::1",
        "redis://:{}@::1:6379",
        "redis://:{}@a,b",
        "redis://:{}@cache/zero",
        "redis://:{}@cache/-1",
        "redis://:{}@cache/1/2",
        "redis://:{}@cache?db=x",
        "redis://:{}@cache?ssl_cert_reqs=none",
        "redis://cache?password={}",
        "redis+sentinel://:{}@s1",
        "redis+sentinel://:{}@s1/a/b",
        "redis+sentinel://:{}@s1/a/1/2",
        "unix://:{}@run/redis.sock",
        "redis://",
        "",
        "unix://",
        # what should have been percent-encoded
        "redis://:12/{}@cache",
        "redis://:12?{}@cache",
        "redis://:12?{}=1@cache:6379",
        "redis://:12?db=1&{}=1@cache:6379",
        "redis://:12#{}@cache",
        "redis://:{}/@cache",
        "redis://:{}?@cache",
        "redis://:{}#@cache",
        "redis://{}:12#@cache",
        "unix://:12/{}@/run/redis.sock",
        "unix://:12?{}@/run/redis.sock",
        "redis+sentinel://:12/{}@mymaster",
        ":12?{}@cache",
    ],
)
def test_the_error_for_an_invalid_url_omits_anything_that_may_be_a_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as failure:
        parse_address(url.format(PASSWORD))
    assert PASSWORD not in str(failure.value)
    assert "cache" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_url_options_that_belong_in_the_config_are_rejected() -> None:
    with pytest.raises(ValueError, match="no option in the URL except db"):
        parse_address("redis://cache?socket_timeout=1")


def test_the_error_for_an_unencoded_password_explains_percent_encoding() -> None:
    with pytest.raises(ValueError, match="%23, %2F, %3F and %40"):
        parse_address("redis://:a#b@cache")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:hunter2-x@cache/3", "cache:6379"),
        ("redis://:hunter2-x@[::1]:1", "[::1]:1"),
        ("unix://me:hunter2-x@/run/redis.sock", "/run/redis.sock"),
        ("redis+sentinel://me:hunter2-x@[::1]:1,s1/mymaster", "mymaster (of Sentinel [::1]:1,s1:26379)"),
    ],
)
def test_an_address_is_displayed_without_user_and_password(url: str, shown: str) -> None:
    address = parse_address(url)
    assert address.password == PASSWORD
    assert str(address) == shown
    assert PASSWORD not in repr(address)
    assert "'me'" not in repr(address)


#: Texts that are never part of an error message or a host name.
_SECRETS = st.text(st.sampled_from("§¤#?/@:=&%ç ,[]"), min_size=1, max_size=12).map(lambda text: f"Zq{text}9J")


@example(secret="Zq@/9J", form="unix://:{}@/s")
@given(
    secret=_SECRETS, form=st.sampled_from(["redis://u:{}@cache:6379/0", "redis+sentinel://:{}@s1/m", "unix://:{}@/s"])
)
def test_a_password_is_accepted_or_rejected_but_never_shown(secret: str, form: str) -> None:
    try:
        address = parse_address(form.format(secret))
    except ValueError as failure:
        shown = str(failure)
    else:
        shown = f"{address!s} {address!r}"
        assert "Zq" in address.password
    assert "Zq" not in shown
    assert "9J" not in shown
