"""Pushes through a proxy, and with extra headers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from agent.logs.shipping import settings
from agent.logs.test_push import parts, push
from certificates import Authority
from deckwatch.logs.loki.push import Accepted, Pusher, Retry, group
from http_proxy import http_proxy
from loki import loki
from services import free_port

if TYPE_CHECKING:
    from pathlib import Path


def with_account(url: str, account: str) -> str:
    return url.replace("://", f"://{account}@")


def test_a_push_without_tls_is_sent_to_the_proxy_as_a_whole() -> None:
    with loki() as double, http_proxy("me:p ss") as proxy:
        pusher = Pusher(settings(double.url, proxy_url=with_account(proxy.url, "me:p%20ss")), threading.Event())
        assert [pusher.push(group(parts("x"), {})) for _ in range(2)] == [Accepted()] * 2
        pusher.close()
        assert proxy.seen == [f"POST {double.url}/loki/api/v1/push HTTP/1.1"] * 2
        assert proxy.headers["Host"] == double.url.removeprefix("http://")
        assert "Proxy-Authorization" not in double.requests[0].headers


def test_a_push_with_tls_goes_through_a_tunnel_and_the_certificate_is_checked(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    with loki(tls=ours.serving()) as double, http_proxy("me:secret") as proxy:
        options: dict[str, Any] = {"proxy_url": with_account(proxy.url, "me:secret"), "bearer_token": "t0ken"}
        assert push(double.url, "x", tls={"ca_file": str(ours.file)}, **options) == Accepted()
        assert proxy.seen == [f"CONNECT {double.url.removeprefix('https://')} HTTP/1.1"]
        assert "Authorization" not in proxy.headers  # the proxy sees nothing of the push
        assert "Proxy-Authorization" not in double.requests[0].headers
        result = push(double.url, "x", **options)
        assert isinstance(result, Retry)
        assert result.reason == "tls"


def test_a_proxy_that_refuses_is_named_without_its_password(tmp_path: Path) -> None:
    with loki(tls=Authority(tmp_path).serving()) as double, http_proxy("me:secret") as proxy:
        result = push(double.url, "x", proxy_url=with_account(proxy.url, "me:wrong"))
        assert isinstance(result, Retry)
        assert "status 407. Check the user" in result.text
        assert "wrong" not in result.text


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_cannot_be_reached_is_named(scheme: str) -> None:
    port = free_port()
    result = push(f"{scheme}://loki.example", "x", proxy_url=f"http://127.0.0.1:{port}")
    assert result == Retry("connection", f"the proxy 127.0.0.1:{port} cannot be reached (Connection refused)")


def test_extra_headers_are_sent_and_hidden() -> None:
    with loki() as double:
        chosen = settings(double.url, headers={"X-Api-Key": "s3cret", "Authorization": "ApiKey abc"})
        pusher = Pusher(chosen, threading.Event())
        assert pusher.push(group(parts("x"), {})) == Accepted()
        pusher.close()
        headers = double.requests[0].headers
        assert (headers["X-Api-Key"], headers["Authorization"]) == ("s3cret", "ApiKey abc")
        assert "s3cret" not in repr(chosen)


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"Content-Type": "x"}},
        {"headers": {"bad name": "x"}},
        {"headers": {"X-Key": "a\r\nX-Other: b"}},
        {"headers": {"authorization": "x"}, "bearer_token": "t"},
        {"proxy_url": "socks5://proxy:1080"},
        {"proxy_url": "https://proxy:3128"},
        {"proxy_url": "http://proxy:3128/path"},
    ],
)
def test_wrong_headers_and_proxies_are_refused_without_being_shown(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        settings("http://127.0.0.1:1", **wrong)
    assert "X-Other" not in str(refused.value.errors(include_input=False))
