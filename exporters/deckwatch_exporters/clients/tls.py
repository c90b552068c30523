"""TLS settings of a connection to a server."""

from __future__ import annotations

from pydantic import model_validator

from deckwatch.exporter import Settings


class TlsSettings(Settings):
    """The server's certificate authority, and a client certificate if the server requires one."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify: bool = True

    @model_validator(mode="after")
    def _pair(self) -> TlsSettings:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("both cert_file and key_file, or neither")
        return self
