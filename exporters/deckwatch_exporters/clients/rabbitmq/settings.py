"""The settings of a connection to RabbitMQ, over AMQP or over the management API."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import SplitResult, unquote

from pydantic import BeforeValidator, Field, model_validator

from deckwatch.exporter import Duration, Secret, Settings, split_http_url
from deckwatch_exporters.clients.tls import TlsSettings

from .address import Address, parse_amqp

_DEFAULT = "guest"


def _checked_url(value: Any) -> Any:
    text = value.get_secret_value() if isinstance(value, Secret) else value
    if isinstance(text, str) and text:
        parse_amqp(text)
    return value


def _checked_management_url(value: Any) -> Any:
    text = value.get_secret_value() if isinstance(value, Secret) else value
    if isinstance(text, str) and text and split_http_url(text).query:
        raise ValueError("a URL without a query, such as http://127.0.0.1:15672")
    return value


class ConnectionSettings(Settings):
    """A RabbitMQ server and one of its virtual hosts. Credentials here override those in the URLs."""

    url: Annotated[Secret, BeforeValidator(_checked_url)] = Field(
        default=Secret(""), description="amqp://[user:password@]host[:port][/vhost], or amqps:// for TLS."
    )
    management_url: Annotated[Secret, BeforeValidator(_checked_management_url)] = Field(
        default=Secret(""),
        description="The management API, such as http://127.0.0.1:15672. If set, all figures come from it.",
    )
    vhost: str = Field(default="", description="The virtual host, by default that of url, else /.")
    username: str = ""
    password: Secret = Secret("")
    tls: TlsSettings = TlsSettings()
    timeout: Duration = 3.0

    @model_validator(mode="after")
    def _complete(self) -> ConnectionSettings:
        if self.amqp is None and self.management is None:
            raise ValueError("url (amqp://host), management_url (http://host:15672), or both")
        if self.password.get_secret_value() and any(password for _, password in self._in_urls()):
            raise ValueError("only one of: a password in a URL, password (or password_file)")
        return self

    @property
    def amqp(self) -> Address | None:
        url = self.url.get_secret_value()
        return parse_amqp(url) if url else None

    @property
    def management(self) -> SplitResult | None:
        url = self.management_url.get_secret_value()
        return split_http_url(url) if url else None

    @property
    def virtual_host(self) -> str:
        return self.vhost or (self.amqp.vhost if self.amqp else "/")

    @property
    def credentials(self) -> tuple[str, str]:
        """User and password: these settings, else those of the URL in use, else of the other one, else `guest`."""
        user, password = next((it for it in self._in_urls() if it[0]), (_DEFAULT, _DEFAULT))
        return self.username or user, self.password.get_secret_value() or password

    def credentials_at(self, address: Address) -> tuple[str, str]:
        """User and password over AMQP, where the management API may have another user."""
        if self.username or not address.username:
            return self.credentials
        return address.username, self.password.get_secret_value() or address.password

    def _in_urls(self) -> list[tuple[str, str]]:
        management, amqp = self.management, self.amqp
        found = [(unquote(management.username or ""), unquote(management.password or ""))] if management else []
        return [*found, (amqp.username, amqp.password)] if amqp else found
