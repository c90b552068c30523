"""The web configuration file as a collector of the agent's own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.metrics.declaration import Gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.http.web_config import WebConfigFile
    from deckwatch.metrics.declaration import Sample

RELOAD_SUCCESSFUL = Gauge(
    "deckwatch_web_config_last_reload_successful",
    "Whether the last attempt to load the web configuration file succeeded.",
)
RELOAD_SUCCESS_TIMESTAMP = Gauge(
    "deckwatch_web_config_last_reload_success_timestamp_seconds",
    "When the web configuration file was last loaded successfully, in Unix seconds.",
)
CERTIFICATE_EXPIRY = Gauge(
    "deckwatch_web_certificate_expiry_timestamp_seconds",
    "When the first certificate of the TLS server's chain expires, in Unix seconds.",
)


class WebConfigCollector:
    """How the last reload of a web configuration file went, and when its certificate expires."""

    def __init__(self, web: WebConfigFile) -> None:
        self._web = web

    def collect(self) -> Iterator[Sample]:
        yield RELOAD_SUCCESSFUL(self._web.is_up_to_date)
        yield RELOAD_SUCCESS_TIMESTAMP(self._web.loaded)
        expiry = self._web.certificate_expiry()
        if expiry is not None:
            yield CERTIFICATE_EXPIRY(expiry)
