"""The settings of a connection to Redis."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from deckwatch.exporter import Duration, Secret, Settings
from deckwatch_exporters.clients.redis.address import Address, parse_address
from deckwatch_exporters.clients.tls import TlsSettings


def _checked_url(value: Any) -> Any:
    text = value.get_secret_value() if isinstance(value, Secret) else value
    if isinstance(text, str):
        parse_address(text)
    return value


class ConnectionSettings(Settings):
    """A server, or the current master of a Sentinel service. Credentials here override those in the URL."""

    url: Annotated[Secret, BeforeValidator(_checked_url)]
    username: str = ""
    password: Secret = Secret("")
    sentinel_username: str = ""
    sentinel_password: Secret = Secret("")
    tls: TlsSettings = TlsSettings()
    timeout: Duration = 3.0
    protocol: Literal[2, 3] = 3

    @model_validator(mode="after")
    def _one_password(self) -> ConnectionSettings:
        if self.password.get_secret_value() and self.address.password:
            raise ValueError("only one of: a password in url, password (or password_file)")
        return self

    @property
    def address(self) -> Address:
        return parse_address(self.url.get_secret_value())

    @property
    def credentials(self) -> tuple[str, str]:
        """User (`` for the default one) and password (`` for none)."""
        address = self.address
        return self.username or address.username, self.password.get_secret_value() or address.password
