"""Collector for the state of the web configuration file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.metrics.declaration import Gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.http.web_config import WebConfigFile
    from deckwatch.metrics.declaration import Sample

RELOAD_SUCCESSFUL = Gauge(
    "deckwatch_web_config_last_reload_successful",
    "Whether the last attempt to load the web configuration file succeeded (1) or failed (0).",
)
RELOAD_SUCCESS_TIMESTAMP = Gauge(
    "deckwatch_web_config_last_reload_success_timestamp_seconds",
    "Time when the web configuration file was last loaded successfully, in Unix seconds.",
)
CERTIFICATE_EXPIRY = Gauge(
    "deckwatch_web_certificate_expiry_timestamp_seconds",
    "Earliest expiry of a certificate in the TLS server's chain, in Unix seconds.",
)


class WebConfigCollector:
    """Reports the result of the last web configuration reload and the certificate's expiry."""

    def __init__(self, web: WebConfigFile) -> None:
        self._web = web

    def collect(self) -> Iterator[Sample]:
        yield RELOAD_SUCCESSFUL(self._web.is_up_to_date)
        yield RELOAD_SUCCESS_TIMESTAMP(self._web.loaded)
        expiry = self._web.certificate_expiry()
        if expiry is not None:
            yield CERTIFICATE_EXPIRY(expiry)
