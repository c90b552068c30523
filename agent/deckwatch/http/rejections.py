"""Counts of the requests and connections that the HTTP server rejects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from deckwatch.metrics.declaration import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metrics.declaration import Sample

Reason = Literal[
    "busy",  # memory for responses is used up (503)
    "connection_limit",  # an older connection was closed for a new one
    "connection_not_allowed",  # the client certificate or the connection does not satisfy the TLS settings
    "cross_site",  # a page of another site requested a reload
    "handshake_limit",  # a TLS handshake was closed for a new one
    "host_not_allowed",  # a loopback listener was addressed by a foreign name
    "malformed",
    "plain_http",  # HTTP on a TLS port
    "rate_limited",
    "reload_disabled",
    "slow_reader",  # the response was not read in time, or its memory was needed
    "slow_request",  # the header block was not complete in time
    "too_large",
    "unauthorized",
]

REJECTIONS = Counter(
    "deckwatch_http_rejections_total",
    "Number of requests and connections that the HTTP server rejected or aborted, by reason.",
    ["reason"],
)


class Rejections:
    """Rejections by reason. Only the event loop's thread counts; every thread may read."""

    def __init__(self) -> None:
        self._counts: dict[Reason, int] = dict.fromkeys(get_args(Reason), 0)

    def count(self, reason: Reason) -> None:
        self._counts[reason] += 1

    def by_reason(self) -> dict[str, int]:
        """Return the reasons that have occurred, most frequent first."""
        found = [(reason, count) for reason, count in self._counts.items() if count]
        found.sort(key=lambda it: (-it[1], it[0]))
        return dict[str, int](found)

    def collect(self) -> Iterator[Sample]:
        for reason, count in self._counts.items():
            yield REJECTIONS(count, reason=reason)
