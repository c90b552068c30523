"""Content negotiation: the scraper's preferred format, or text if the header cannot be parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.http.negotiation import OPENMETRICS, OPENMETRICS_0_0_1, TEXT, Format, accepts_gzip, choose_format

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1", OPENMETRICS_0_0_1),
        ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;version=0.0.4;q=0.9", TEXT),
        ("application/openmetrics-text;q=0,text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;version=abc", TEXT),
        ("application/openmetrics-text;version=2.0.0,text/plain;version=9", TEXT),
        ("application/openmetrics-text;q=lots", TEXT),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily", TEXT),
        ("APPLICATION/OpenMetrics-Text ; Version=1.0.0", OPENMETRICS),
        (";;;,=,q=;version", TEXT),
    ],
)
def test_the_best_offer_wins_and_text_is_the_fallback(accept: str, expected: Format) -> None:
    assert choose_format(accept) is expected


@given(st.text())
def test_no_header_makes_negotiation_fail(header: str) -> None:
    assert choose_format(header) in (TEXT, OPENMETRICS, OPENMETRICS_0_0_1)
    assert accepts_gzip(header) in (True, False)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("", False), ("br", False), ("*", True),
     ("*;q=0", False), ("gzip;q=0, *", False)],
)  # fmt: skip
def test_gzip_is_used_only_when_it_is_accepted(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted
