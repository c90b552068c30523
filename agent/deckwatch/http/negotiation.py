"""Content negotiation of the exposition format and encoding (RFC 9110, 12.4 and 12.5)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    name: str
    content_type: str

    @property
    def is_openmetrics(self) -> bool:
        return self.name == "openmetrics"


TEXT = Format("text", "text/plain; version=0.0.4; charset=utf-8")
OPENMETRICS = Format("openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8")
# 1.0.0 is compatible with 0.0.1. Old scrapers that request 0.0.1 expect that number in the response.
OPENMETRICS_0_0_1 = Format("openmetrics", "application/openmetrics-text; version=0.0.1; charset=utf-8")

_OFFERS = {
    ("text/plain", ""): TEXT,
    ("text/plain", "0.0.4"): TEXT,
    ("text/*", ""): TEXT,
    ("*/*", ""): TEXT,
    ("application/openmetrics-text", ""): OPENMETRICS,
    ("application/openmetrics-text", "1.0.0"): OPENMETRICS,
    ("application/openmetrics-text", "0.0.1"): OPENMETRICS_0_0_1,
    ("application/*", ""): OPENMETRICS,
}


def choose_format(accept: str) -> Format:
    """Return the supported format with the highest q-value, or the first of equal ones. The fallback is text."""
    best, best_quality = TEXT, 0.0
    for media_range in accept.split(","):
        kind, parameters = _parse(media_range)
        offer = _OFFERS.get((kind, parameters.get("version", "")))
        if offer is None or parameters.get("escaping", "underscores") not in _ESCAPING:
            continue
        quality = _quality(parameters)
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


# All metric names are legacy ASCII names, so no escaping scheme changes them.
_ESCAPING = frozenset(("underscores", "allow-utf-8", "dots", "values"))


def accepts_gzip(accept_encoding: str) -> bool:
    explicit: dict[str, float] = {}
    for coding in accept_encoding.split(","):
        name, parameters = _parse(coding)
        explicit[name] = _quality(parameters)
    return explicit.get("gzip", explicit.get("*", 0.0)) > 0


def _parse(item: str) -> tuple[str, dict[str, str]]:
    name, *rest = item.split(";")
    parameters = {}
    for part in rest:
        key, _, value = part.partition("=")
        parameters[key.strip().lower()] = value.strip().strip('"')
    return name.strip().lower(), parameters


def _quality(parameters: dict[str, str]) -> float:
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0  # ignore a media range with a malformed weight
    return quality if 0.0 <= quality <= 1.0 else 0.0
