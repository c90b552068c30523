"""Pushes to Loki: the request, the connection and the interpretation of the response."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from agent.logs.shipping import settings
from certificates import Authority
from deckwatch import __version__
from deckwatch.logs.loki.batch import Part, decode, encode
from deckwatch.logs.loki.protobuf import label_text, literals
from deckwatch.logs.loki.push import Accepted, Pusher, Rejected, Result, Retry, TooLarge, group, interpret, json_pieces
from loki import Fault, loki
from loki_wire import unsnappy
from services import free_port, until

if TYPE_CHECKING:
    from pathlib import Path

NOW = time.time_ns()


def parts(*lines: str, job: str = "app") -> list[Part]:
    values = [(str(NOW + number), line) for number, line in enumerate(lines)]
    return decode(encode([((("job", job),), values)], {}))


def push(url: str, *lines: str, **options: Any) -> Result:
    pusher = Pusher(settings(url, **options), threading.Event())
    try:
        return pusher.push(group(parts(*lines), {}))
    finally:
        pusher.close()


def test_parts_of_a_stream_are_joined_in_order_without_being_parsed() -> None:
    streams = group([*parts("a"), *parts("b", job="web"), *parts("c")], {"env": "prod"})
    assert json.loads(b"".join(json_pieces(streams))) == {
        "streams": [
            {"stream": {"env": "prod", "job": "app"}, "values": [[str(NOW), "a"], [str(NOW), "c"]]},
            {"stream": {"env": "prod", "job": "web"}, "values": [[str(NOW), "b"]]},
        ]
    }


def test_a_push_has_headers_for_client_content_tenant_and_credentials() -> None:
    with loki(tenant="team", basic=("me", "päss:word")) as double:
        assert push(double.url, "x", tenant="team", username="me", password="päss:word") == Accepted()
        headers = double.requests[0].headers
        assert json.loads(gzip.decompress(double.requests[0].body))
        assert double.stored_lines == ["x"]
    wanted = {
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "User-Agent": f"deckwatch/{__version__}",
        "X-Scope-OrgID": "team",
        "Host": double.url.removeprefix("http://"),
    }
    assert wanted.items() <= headers.items()


def test_protobuf_is_sent_in_a_snappy_block() -> None:
    with loki() as double:
        assert push(double.url, "x" * 100_000, "é", encoding="protobuf") == Accepted()
        assert double.stored_lines == ["x" * 100_000, "é"]
        assert double.requests[0].headers["Content-Type"] == "application/x-protobuf"


@pytest.mark.parametrize("size", [0, 1, 127, 65536, 65537, 200_000])
def test_uncompressed_literals_are_a_valid_snappy_block(size: int) -> None:
    assert unsnappy(literals(b"ab" * size)) == b"ab" * size


def test_labels_are_formatted_so_that_go_can_parse_them() -> None:
    assert label_text({"b": 'x"\\\n\x01é', "a": ""}) == '{a="", b="x\\"\\\\\\n\\u0001é"}'


def test_a_url_may_contain_the_whole_path_or_a_prefix() -> None:
    with loki() as double:
        assert push(double.url + "/", "x") == Accepted()
        assert push(double.url + "/loki/api/v1/push", "y") == Accepted()
        result = push(double.url + "/prefix", "z")
        assert isinstance(result, Retry)
        assert result.reason == "status_404"


def test_credentials_in_the_url_are_used() -> None:
    with loki(basic=("me", "p@ss")) as double:
        assert push(double.url.replace("//", "//me:p%40ss@"), "x") == Accepted()


def test_the_connection_is_reused_and_replaced_after_the_server_closed_it() -> None:
    port = free_port()
    with loki(port=port) as double:
        pusher = Pusher(settings(double.url), threading.Event())
        assert [pusher.push(group(parts("x"), {})) for _ in range(3)] == [Accepted()] * 3
        assert double.connections == 1
    with loki(port=port) as double:
        assert pusher.push(group(parts("x"), {})) == Accepted()
    pusher.close()


def test_a_wrong_token_is_retried_and_never_shown() -> None:
    with loki(bearer="right") as double:
        assert push(double.url, "x", bearer_token="right\n") == Accepted()
        result = push(double.url, "x", bearer_token="wr0ng-s3cret")
    assert result == Retry("unauthorized", "status 401")


def test_a_secret_that_a_response_echoes_is_not_shown() -> None:
    with loki() as double:
        double.fault = Fault("status", 500, "cannot do: Basic bWU6czNjcmV0 of me with s3cret")
        result = push(double.url, "x", username="me", password="s3cret")
    assert result == Retry("server_error", "status 500: cannot do: Basic *** of me with ***")


@pytest.mark.parametrize("secret", ["two\nlines", "töken"])
def test_a_secret_that_is_invalid_in_a_header_is_rejected_without_showing_it(secret: str) -> None:
    with pytest.raises(ValueError, match=r"bearer_token: contains characters") as error:
        Pusher(settings("http://127.0.0.1:1", bearer_token=secret), threading.Event())
    assert secret not in str(error.value)


def test_a_missing_tenant_is_retried() -> None:
    with loki(tenant="team") as double:
        assert push(double.url, "x") == Retry("unauthorized", "status 401")


def test_a_redirect_is_not_followed() -> None:
    with loki() as target, loki() as double:
        double.fault = Fault("status", 302, location=target.url + "/loki/api/v1/push")
        result = push(double.url, "x", bearer_token="t")
        assert isinstance(result, Retry)
        assert result.reason == "redirect"
        assert target.requests == []


def test_a_name_that_does_not_resolve_is_a_connection_error() -> None:
    result = push("http://nowhere.invalid:1", "x")
    assert isinstance(result, Retry)
    assert result.reason == "connection"


def test_a_response_that_arrives_slowly_times_out() -> None:
    with loki() as double:
        double.fault = Fault("slow", seconds=0.1)  # the response takes almost 5 s
        result = push(double.url, "x", timeout="500ms")
    assert result == Retry("timeout", "timed out after 0.5 s")


def test_a_stop_gives_a_push_in_progress_one_second() -> None:
    stop = threading.Event()
    with loki() as double:
        double.fault = Fault("hang")
        pusher = Pusher(settings(double.url, timeout="1h"), stop)

        def stop_it() -> None:
            until(lambda: double.requests)
            stop.set()

        threading.Thread(target=stop_it).start()
        assert pusher.push(group(parts("x"), {})) == Retry("timeout", "stopped")
        pusher.close()


def test_a_server_that_does_not_speak_http_is_reported() -> None:
    with loki() as double:
        result = push(double.url.replace("http:", "https:"), "x", tls={"insecure_skip_verify": True})
    assert isinstance(result, Retry)
    assert result.reason in ("tls", "connection")


def test_each_response_is_interpreted() -> None:
    def of(status: int, text: str = "", **headers: str) -> Result:
        return interpret(status, text, {name.replace("_", "-"): value for name, value in headers.items()})

    assert of(204) == of(200) == Accepted()
    assert of(413, "request body\n too large") == TooLarge("request body too large")
    assert of(429, "slow", Retry_After="7") == Retry("rate_limited", "slow", 7.0)
    assert of(503, "x", Retry_After="soon") == Retry("server_error", "status 503: x")
    assert of(418, "x") == Retry("status_418", "status 418: x")
    assert of(400, "total ignored: 1 out of 2, Per stream rate limit exceeded") == Retry(
        "rate_limited", "total ignored: 1 out of 2, Per stream rate limit exceeded"
    )
    whole = of(400, "no", Content_Type="text/plain; charset=utf-8")
    assert isinstance(whole, Rejected)
    assert whole.plain
    assert whole.refusals.items == ()
    dated = of(503, "", Retry_After=formatdate(time.time() + 100, usegmt=True))
    assert isinstance(dated, Retry)
    assert dated.after == pytest.approx(100, abs=5)


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("<!DOCTYPE html><html><body>Please log in</body></html>", "text/html; charset=utf-8"),
        ("\ufeff\n  <HTML><head>", ""),
        ("Please log in", "text/HTML"),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_web_page_that_says_all_is_well_stores_no_logs_and_is_retried(
    status: int, text: str, content_type: str
) -> None:
    result = interpret(status, text, {"Content-Type": content_type})
    assert isinstance(result, Retry)
    assert result.reason == "not_loki"
    assert "Check url" in result.text


@pytest.mark.parametrize("text", ["", "{}", '{"status":"success"}', "ok"])
def test_other_answers_of_success_are_accepted(text: str) -> None:
    assert interpret(200, text, {"Content-Type": "application/json"}) == Accepted()


# TLS


def test_only_servers_of_the_configured_authority_are_trusted(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    with loki(tls=ours.serving()) as double:
        assert push(double.url, "x", tls={"ca_file": str(ours.file)}) == Accepted()
        assert push(double.url, "x", tls={"insecure_skip_verify": True}) == Accepted()
        for wrong in ({"ca_file": str(other.file)}, {}):
            result = push(double.url, "x", tls=wrong)
            assert isinstance(result, Retry)
            assert (result.reason, "certificate" in result.text.lower()) == ("tls", True)


def test_the_certificate_is_checked_for_the_server_name(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    context = ours.serving(x509.DNSName("loki.example"))
    with loki(tls=context) as double:
        tls = {"ca_file": str(ours.file)}
        assert push(double.url, "x", tls={**tls, "server_name": "loki.example"}) == Accepted()
        result = push(double.url, "x", tls=tls)
        assert isinstance(result, Retry)
        assert result.reason == "tls"


def test_a_client_certificate_is_presented(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    context = ours.serving()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(str(ours.file))
    certificate, key = map(str, ours.issue("client"))
    with loki(tls=context) as double:
        tls = {"ca_file": str(ours.file)}
        assert push(double.url, "x", tls={**tls, "cert_file": certificate, "key_file": key}) == Accepted()
        result = push(double.url, "x", tls=tls)
        assert isinstance(result, Retry)
        assert result.reason in ("tls", "connection")


def test_a_tls_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    certificate, key = ours.issue("client", password=b"secret")
    for tls, named in (
        ({"ca_file": str(tmp_path / "none.pem")}, r"tls.ca_file .*none.pem"),
        ({"ca_file": str(key)}, r"tls.ca_file .*client.key"),
        ({"cert_file": str(tmp_path / "none.crt")}, r"tls.cert_file .*none.crt"),
        ({"cert_file": str(certificate), "key_file": str(key)}, r"tls.key_file .*client.key"),
    ):
        with pytest.raises(OSError, match=named):
            Pusher(settings("https://127.0.0.1:1", tls=tls), threading.Event())
