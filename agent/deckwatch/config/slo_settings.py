"""Service level objectives: `slos` in the config. `deckwatch alerts export` makes rules of them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema, model_validator

from .values import Settings

_MATCHER = r'[a-zA-Z_][a-zA-Z0-9_]*\s*(?:=~|!~|!=|=)\s*"(?:[^"\\\n]|\\.)*"'
_SELECTOR = re.compile(rf"[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{{\s*(?:{_MATCHER}\s*(?:,\s*{_MATCHER}\s*)*,?\s*)?\}})?")


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,63}", name):
        raise ValueError("a name of 1 to 63 letters, digits, and _ . -")
    return name


def _checked_selector(text: str) -> str:
    if not _SELECTOR.fullmatch(text.strip()):
        raise ValueError(
            'a counter with optional matchers, such as http_requests_total{status!~"5.."}, without rate() and [5m]'
        )
    return text.strip()


def _checked_objective(percent: Any) -> Any:
    if isinstance(percent, (int, float)) and not isinstance(percent, bool) and not 50 <= percent < 100:
        raise ValueError("a percentage from 50 to below 100, such as 99.9")
    return percent


Selector = Annotated[str, AfterValidator(_checked_selector)]


class SloSettings(Settings):
    """One objective: `objective` percent of `total` are `good`, or of the HTTP requests of a `service` or `route`."""

    name: Annotated[str, AfterValidator(_checked_name)]
    objective: Annotated[
        float,
        BeforeValidator(_checked_objective),
        WithJsonSchema({"anyOf": [{"type": "number", "minimum": 50, "exclusiveMaximum": 100}, {"type": "string"}]}),
    ]
    good: Selector | None = None
    total: Selector | None = None
    service: str | None = None
    route: str | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> SloSettings:
        counted, by_request = (self.good, self.total), (self.service, self.route)
        if any(counted) and any(by_request):
            raise ValueError("either `good` and `total`, or `service` and `route`, not both")
        if not any(by_request) and not all(counted):
            raise ValueError("`good` and `total`, or `service` and `route` of HTTP requests")
        return self


def checked_names(slos: tuple[SloSettings, ...]) -> tuple[SloSettings, ...]:
    seen = set()
    for slo in slos:
        if slo.name in seen:
            raise ValueError(f"a different name for each: {slo.name!r} is there twice")
        seen.add(slo.name)
    return slos
