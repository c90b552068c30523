"""DNS probes: one query to a name server, and what the answer must be.

dnspython uses 7 MB, so that only a DNS probe imports it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .network import Address, ProbeFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dns.message import Message

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.stream import Deadline

    from .network import Resolver
    from .settings import ProbeSettings

DURATION = Gauge("probe_dns_duration_seconds", "Duration of a phase of the DNS request, in seconds.", ["phase"])
ANSWERS = Gauge("probe_dns_answer_rrs", "Number of records in the answer section.")
AUTHORITIES = Gauge("probe_dns_authority_rrs", "Number of records in the authority section.")
ADDITIONS = Gauge("probe_dns_additional_rrs", "Number of records in the additional section.")
SUCCEEDED = Gauge("probe_dns_query_succeeded", "Whether the name server responded (1) or not (0).")
SERIAL = Gauge("probe_dns_serial", "Serial number of the zone, for queries of type SOA.")

_PORT = 53


@dataclass
class DnsResult:
    """What a DNS probe has measured so far; `activity` is what it is doing."""

    address: Address = field(default_factory=Address)
    request: float = 0.0
    response: Message | None = None
    activity: str = ""

    def samples(self) -> Iterator[Sample]:
        from dns.rdatatype import SOA

        yield from self.address.samples()
        # Opening a socket and asking are one step here: `connect` is part of `request`.
        for phase, seconds in (("resolve", self.address.lookup), ("connect", 0.0), ("request", self.request)):
            yield DURATION(seconds, phase=phase)
        response = self.response
        sections = (response.answer, response.authority, response.additional) if response else ([], [], [])
        for metric, section in zip((ANSWERS, AUTHORITIES, ADDITIONS), sections, strict=True):
            yield metric(sum(len(records) for records in section))
        yield SUCCEEDED(int(response is not None))
        for records in sections[0]:
            if records.rdtype == SOA:
                yield SERIAL(records[0].serial)


class DnsProbe:
    """Sends one query to the server of the settings."""

    def __init__(self, settings: ProbeSettings, resolver: Resolver) -> None:
        self._settings = settings
        self._resolver = resolver

    def run(self, result: DnsResult, deadline: Deadline) -> None:
        """Fill the result. Raises ProbeFailed, TimeoutError."""
        import dns.exception
        import dns.message
        import dns.query

        settings, url = self._settings, self._settings.parts
        host, port = url.hostname or "", url.port or _PORT
        result.activity = f"resolving {host}"
        began = time.perf_counter()
        address = self._resolver.addresses(host, port, settings.ip_protocol, deadline)[0][1]
        result.address.lookup = time.perf_counter() - began
        result.address.ip = str(address[0]).partition("%")[0]
        result.activity = f"waiting for the answer of {host}:{port}"
        query = dns.message.make_query(settings.query_name, settings.query_type, use_edns=False)
        began = time.perf_counter()
        try:
            if settings.dns_over_tcp:
                result.response = dns.query.tcp(query, address[0], deadline.remaining(), port)
            else:
                result.response = dns.query.udp(
                    query, address[0], deadline.remaining(), port, ignore_unexpected=True, ignore_errors=True
                )
        except dns.exception.Timeout:
            raise TimeoutError from None
        except (dns.exception.DNSException, OSError, EOFError) as failure:
            reason = getattr(failure, "strerror", None) or type(failure).__name__
            raise ProbeFailed(f"the name server {host}:{port} failed to answer: {reason}") from None
        finally:
            result.request = time.perf_counter() - began
        self._check(result.response)

    def _check(self, response: Message) -> None:
        import dns.rcode

        code, expect = dns.rcode.to_text(response.rcode()), self._settings.expect
        if code != expect.rcode:
            raise ProbeFailed(f"response code {code}, expected {expect.rcode}")
        pattern = expect.answer
        if pattern is not None and not any(pattern.search(it.to_text()) for found in response.answer for it in found):
            raise ProbeFailed(f"no record of the answer matches {pattern.pattern}", is_regex=True)
