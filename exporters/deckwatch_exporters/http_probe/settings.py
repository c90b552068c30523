"""The settings of one probe."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from deckwatch.exporter import Duration, Pattern, Secret, Settings, Size, check_headers, split_http_url
from deckwatch_exporters.clients.tls import TlsSettings

_TCP = re.compile(r"(?:tcp|tls)://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}/?", re.ASCII)
_DNS = re.compile(
    r"dns://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?/[A-Za-z0-9_.-]{1,253}(?:\?[a-z=&A-Z0-9]*)?", re.ASCII
)
_STATUS = re.compile(r"[1-5](?:xx|[0-9]{2})", re.ASCII)
_DNS_ONLY = {"rcode", "answer"}
_OWN_HEADERS = ("connection", "content-length", "transfer-encoding")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


def _checked_status(value: Any) -> Any:
    if isinstance(value, bool) or not _STATUS.fullmatch(str(value)):
        raise ValueError("an HTTP status such as 200, or a class such as 2xx")
    return str(value)


Status = Annotated[str, BeforeValidator(_checked_status)]
_STATUS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": r"^([1-5](xx|[0-9]{2})|.*\$\{.*)$"},
    ]
}
_STATUSES_SCHEMA = {"anyOf": [_STATUS_SCHEMA, {"type": "array", "items": _STATUS_SCHEMA, "minItems": 1}]}


class ProbeTlsSettings(TlsSettings):
    """`server_name` is the name that the certificate must have, by default that of the URL."""

    server_name: str = ""


class Expectation(Settings):
    """What a response must be; `rcode` and `answer` are for DNS, the others for HTTP.

    Regular expressions are in RE2 syntax, `json_expression` in JMESPath.

    `status` is a code such as 200, a class such as 2xx, or a list of them. `json_expression` must be true for the body.
    `answer` must match one of the records.
    """

    status: Annotated[
        tuple[Status, ...], BeforeValidator(_as_list), Field(min_length=1), WithJsonSchema(_STATUSES_SCHEMA)
    ] = ("2xx",)
    body: Pattern | None = None
    body_not: Pattern | None = None
    json_expression: str = ""
    headers: dict[str, Pattern] = Field(default_factory=dict)
    tls: bool | None = None
    rcode: Annotated[str, Field(pattern=r"^[A-Z]{1,16}$")] = "NOERROR"
    answer: Pattern | None = None

    @field_validator("json_expression")
    @classmethod
    def _is_jmespath(cls, expression: str) -> str:
        import jmespath

        if expression:
            try:
                jmespath.compile(expression)
            except jmespath.exceptions.JMESPathError:
                raise ValueError("a JMESPath expression such as status == 'ok'") from None
        return expression

    @property
    def reads_body(self) -> bool:
        return self.body is not None or self.body_not is not None or bool(self.json_expression)

    def accepts(self, status: int) -> bool:
        return any(it == str(status) or (it.endswith("xx") and it[0] == str(status)[0]) for it in self.status)


class Step(Settings):
    """A step of a conversation over TCP, one of: `send` a line, `expect` a line that matches, `starttls`."""

    send: Secret | None = None
    expect: Pattern | None = None
    starttls: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Step:
        if sum(it is not None for it in (self.send, self.expect, self.starttls)) != 1:
            raise ValueError("one of: send, expect, starttls: true")
        return self


class ProbeSettings(Settings):
    """One endpoint: `http://`, `https://`, `tcp://host:port`, `tls://host:port` or `dns://server/name`.

    `timeout` limits the whole probe. A body that is longer than `body_size_limit` fails it. `ip_protocol: any` tries
    IPv6 and then IPv4.
    """

    url: Secret
    method: Annotated[str, Field(pattern=r"^[A-Z]{1,16}$")] = "GET"
    headers: dict[str, Secret] = Field(default_factory=dict)
    body: Secret | None = None
    username: str = ""
    password: Secret | None = None
    bearer_token: Secret | None = None
    tls: ProbeTlsSettings = ProbeTlsSettings()
    ip_protocol: Literal["any", "ip4", "ip6"] = "any"
    timeout: Annotated[Duration, Field(le=300)] = 5.0
    follow_redirects: bool = True
    body_size_limit: Size = 2 * 1024 * 1024
    expect: Expectation = Expectation()
    steps: tuple[Step, ...] = ()

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: Secret) -> Secret:
        text = url.get_secret_value()
        if text.startswith(("tcp:", "tls:")):
            if not _TCP.fullmatch(text) or not 0 < _port(text) < 65536:
                raise ValueError("a URL such as tcp://127.0.0.1:6379 or tls://db.example:5432")
        elif text.startswith("dns:"):
            if not _DNS.fullmatch(text) or (
                urlsplit(text).netloc.rpartition(":")[2].isdecimal() and not _has_port(text)
            ):
                raise ValueError("a URL such as dns://127.0.0.1/example.org?type=A&protocol=tcp")
            _dns_options(text)
            _dns_name(urlsplit(text).path)
        elif not text.isascii() or not text.startswith(("http:", "https:")):
            raise ValueError("a URL that begins with http://, https://, tcp://, tls:// or dns://, in ASCII")
        else:
            split_http_url(text)
        return url

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        check_headers(headers, _OWN_HEADERS)
        return headers

    @model_validator(mode="after")
    def _consistent(self) -> ProbeSettings:
        http_only = {"method", "headers", "body", "username", "password", "bearer_token"}
        scheme, expected = self.parts.scheme, self.expect.model_fields_set
        if scheme not in ("tcp", "tls") and self.steps:
            raise ValueError("steps only with a URL of tcp:// or tls://")
        given = http_only & self.model_fields_set if not self.is_http else set()
        wrong = expected if scheme in ("tcp", "tls") else expected & _DNS_ONLY if self.is_http else expected - _DNS_ONLY
        if given or wrong:
            raise ValueError(
                f"no {', '.join(sorted([*given, *(f'expect.{it}' for it in wrong)]))} with a URL of {scheme}://"
            )
        ways = [bool(self.username or self.password), self.bearer_token is not None, self.parts.username is not None]
        if sum(ways) > 1:
            raise ValueError("only one of: username and password, bearer_token, a user in url")
        token = self.bearer_token
        if token is not None and (not token.get_secret_value().isascii() or not token.get_secret_value().isprintable()):
            raise ValueError("a bearer_token in printable ASCII")
        return self

    @cached_property
    def parts(self) -> SplitResult:
        return urlsplit(self.url.get_secret_value())

    @property
    def is_http(self) -> bool:
        return self.parts.scheme in ("http", "https")

    @property
    def query_name(self) -> str:
        """The name that a DNS probe asks for, with the dot of the root."""
        return _dns_name(self.parts.path)

    @property
    def query_type(self) -> str:
        """The type of record that a DNS probe asks for."""
        return _dns_options(self.url.get_secret_value())[0]

    @property
    def dns_over_tcp(self) -> bool:
        return _dns_options(self.url.get_secret_value())[1] == "tcp"

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password for basic authentication."""
        if self.parts.username is not None:
            return unquote(self.parts.username), unquote(self.parts.password or "")
        if self.username or self.password:
            return self.username, self.password.get_secret_value() if self.password else ""
        return None


def _has_port(url: str) -> bool:
    port = int(urlsplit(url).netloc.rpartition(":")[2])
    return 0 < port < 65536


def _dns_name(path: str) -> str:
    """The absolute name in the path of a DNS URL. Raises ValueError."""
    from dns import exception, name

    try:
        return name.from_text(path.strip("/")).to_text()
    except (exception.DNSException, ValueError):
        raise ValueError("a URL such as dns://127.0.0.1/example.org, with labels of 1 to 63 characters") from None


def _dns_options(url: str) -> tuple[str, str]:
    """Type and protocol of a DNS URL. Raises ValueError."""
    options = {"type": "A", "protocol": "udp", **dict(parse_qsl(urlsplit(url).query))}
    if (
        options.keys() != {"type", "protocol"}
        or options["protocol"] not in ("udp", "tcp")
        or not re.fullmatch(r"[A-Z0-9]{1,16}", options["type"])
    ):
        raise ValueError("a URL with ?type=A, ?protocol=tcp, or both joined by &")
    from dns import exception, rdatatype

    try:
        rdatatype.from_text(options["type"])
    except (exception.DNSException, ValueError):
        raise ValueError("a type of DNS records such as A, AAAA, MX, SOA or TXT") from None
    return options["type"], options["protocol"]


def _port(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])
