"""Settings that all destinations of pushes share: address, credentials, headers and TLS."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from .http_headers import check_headers
from .urls import split_http_url
from .values import Duration, Secret, Settings

_OWN_HEADERS = ("host", "connection", "content-type", "content-encoding", "content-length", "transfer-encoding")


class DestinationTlsSettings(Settings):
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False


class HttpDestination(Settings):
    """Where pushes go, and the credentials for them. `headers` are sent with every push."""

    url: str
    name: str = ""  # in metrics; the host of the URL without one
    username: str | None = None
    password: Secret | None = None
    bearer_token: Secret | None = None
    headers: dict[str, Secret] = Field(default_factory=dict)
    tls: DestinationTlsSettings = DestinationTlsSettings()
    timeout: Duration = 10.0
    max_backoff: Duration = 60.0

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        split_http_url(url)
        return url

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, Secret]) -> dict[str, Secret]:
        check_headers(headers, _OWN_HEADERS)
        return headers

    @model_validator(mode="after")
    def _one_password(self) -> HttpDestination:
        own = next((value for name, value in self.headers.items() if name.lower() == "authorization"), None)
        given = (self.password, self.bearer_token, split_http_url(self.url).password, own)
        if sum(one is not None for one in given) > 1:
            raise ValueError(
                "only one of: a password in url, password (or password_file), bearer_token, a header Authorization"
            )
        return self
