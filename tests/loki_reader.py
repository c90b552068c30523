"""Reads stored entries from a real Loki or a double over the query API."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loki_store import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from loki_store import Labels


@dataclass(frozen=True)
class Stored:
    labels: Labels
    time: int  # Unix nanoseconds
    line: str
    metadata: Labels


class Loki:
    """A reader of the entries that Loki at `url`, real or a double, stored for a tenant."""

    def __init__(self, url: str, tenant: str | None = None) -> None:
        self.url = url
        self.tenant = tenant

    def entries(self, query: str, start: int | None = None, end: int | None = None) -> list[Stored]:
        """Return the entries that match a selector (`{job="app"}`), oldest first (default: 8 days to the next hour)."""
        now = time.time_ns()
        begin = now - 8 * 24 * 3600 * SECOND if start is None else start
        until = now + 3600 * SECOND if end is None else end
        found: dict[Stored, None] = {}
        while True:
            page = self._page(query, begin, until)
            before = len(found)
            found.update(dict.fromkeys(page))
            if len(found) == before:
                return sorted(found, key=lambda entry: entry.time)
            begin = max(
                entry.time for entry in page
            )  # repeat this time, because a page can end between two entries of the same time

    def lines(self, query: str) -> list[str]:
        return [entry.line for entry in self.entries(query)]

    def _page(self, query: str, start: int, end: int) -> list[Stored]:
        asked = {"query": query, "start": start, "end": end, "limit": 5000, "direction": "forward"}
        request = urllib.request.Request(f"{self.url}/loki/api/v1/query_range?{urllib.parse.urlencode(asked)}")
        request.add_header(
            "X-Loki-Response-Encoding-Flags", "categorize-labels"
        )  # return metadata separately from labels
        if self.tenant:
            request.add_header("X-Scope-OrgID", self.tenant)
        with urllib.request.urlopen(request, timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
        return [
            Stored(_pairs(stream["stream"]), int(value[0]), value[1], _pairs(_metadata(value)))
            for stream in result
            for value in stream["values"]
        ]


def _metadata(value: list[Any]) -> dict[str, str]:
    return dict((value[2] if len(value) > 2 else {}).get("structuredMetadata", {}))


def _pairs(labels: dict[str, str]) -> Labels:
    """Return the sorted labels without those that Loki adds."""
    added = ("detected_level", "service_name")
    return tuple(sorted((name, text) for name, text in labels.items() if name not in added))


def assert_exactly_once(lines: Iterable[str], stored: Iterable[str]) -> None:
    """Assert that every line is stored exactly as often as it was written."""
    wanted, found = Counter(lines), Counter(stored)
    missing, extra = wanted - found, found - wanted
    assert not missing, f"{missing.total()} of {wanted.total()} lines are missing, such as {list(missing)[:5]}"
    assert not extra, f"{extra.total()} lines are stored too often, such as {list(extra)[:5]}"
