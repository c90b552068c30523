"""Probes of endpoints under the names of blackbox_exporter (https://github.com/prometheus/blackbox_exporter)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import (
    Exporter,
    Failed,
    Gauge,
    KeyFigure,
    Refresh,
    Scheduled,
    Target,
    client_context,
)
from deckwatch_exporters.clients.stream import Deadline

from .dns_query import DnsProbe, DnsResult
from .http import HttpProbe, HttpResult
from .network import ProbeFailed, Resolver
from .settings import ProbeSettings
from .tcp import TcpProbe, TcpResult

if TYPE_CHECKING:
    import ssl

    from deckwatch.exporter import Context, Results

SUCCESS = Gauge("probe_success", "Whether the probe succeeded (1) or failed (0).")
DURATION = Gauge("probe_duration_seconds", "Duration of the probe, in seconds.")
TIMEOUT = Gauge("probe_timeout_seconds", "Time limit of the probe, in seconds.")
FAILED_DUE_TO_REGEX = Gauge(
    "probe_failed_due_to_regex", "Whether the probe failed because of a regular expression (1) or not (0)."
)

_CONTEXT_INTERVAL = 300.0  # seconds after which the files of `tls` are read again


class Probe:
    """The collector of one endpoint. A probe that fails is a result, not a failure of the collector."""

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._resolver = Resolver()
        self._tls: ssl.SSLContext | None = None
        self._tls_due = Refresh(_CONTEXT_INTERVAL)

    def collect(self) -> Results:
        began = time.perf_counter()
        deadline = Deadline(self._settings.timeout)
        result: HttpResult | TcpResult | DnsResult
        if self._settings.is_http:
            result = HttpResult()
        else:
            result = DnsResult() if self._settings.parts.scheme == "dns" else TcpResult()
        reason, is_regex = "", False
        try:
            if isinstance(result, HttpResult):
                HttpProbe(self._settings, self._resolver, self._context).run(result, deadline)
            elif isinstance(result, DnsResult):
                DnsProbe(self._settings, self._resolver).run(result, deadline)
            else:
                TcpProbe(self._settings, self._resolver, self._context).run(result, deadline)
        except ProbeFailed as failure:
            reason, is_regex = str(failure), failure.is_regex
        except TimeoutError:
            reason = f"timed out after {self._settings.timeout:g} s while {result.activity}"
        yield SUCCESS(int(not reason))
        yield DURATION(time.perf_counter() - began)
        yield TIMEOUT(self._settings.timeout)
        yield FAILED_DUE_TO_REGEX(int(is_regex))
        yield from result.samples()
        if reason:
            yield Failed(reason)

    def _context(self) -> ssl.SSLContext:
        """The TLS context. Raises ProbeFailed if a file of the settings cannot be used."""
        tls = self._settings.tls
        if self._tls is None or self._tls_due.is_due:
            try:
                self._tls = client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=tls.verify)
            except OSError as failure:
                raise ProbeFailed(str(failure)) from None
            self._tls_due.done()
        return self._tls


def _open(settings: ProbeSettings, _context: Context) -> Target:
    # Frequent scrapes do not make a probe run more often than its timeout.
    return Target({"http_probe": Scheduled(Probe(settings), interval=settings.timeout)})


EXPORTER = Exporter(
    name="http_probe",
    settings=ProbeSettings,
    open=_open,
    named=True,
    key_figures=(
        KeyFigure("Duration", "probe_duration_seconds", "seconds"),
        KeyFigure("HTTP status", "probe_http_status_code"),
        KeyFigure("Redirects", "probe_http_redirects"),
    ),
    runbook="ProbeFailing",
)
