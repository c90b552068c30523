"""SAQ on Redis: `saq:NAME:queued` and `active` are lists, `incomplete` has the times of jobs for later."""

from __future__ import annotations

from typing import Literal

from .ages import unix_seconds
from .message import fields_of
from .redis_broker import RedisBroker, RedisQueuesSettings
from .redis_layout import Head, Layout, LayoutBroker, Part


class SaqSettings(RedisQueuesSettings):
    """SAQ's Redis queue. A queue is found once one of its workers has run."""

    kind: Literal["saq"]


def saq_broker(settings: SaqSettings, redis: RedisBroker | None = None) -> LayoutBroker:
    return LayoutBroker(settings, _LAYOUT, redis)


def _published(job: bytes) -> float | None:
    return unix_seconds(fields_of(job).get("queued"))  # nothing without SAQ's JSON encoder


_LAYOUT = Layout(
    kind="saq",
    pattern="saq:*:incomplete",
    queue_of=lambda key: key.removeprefix("saq:").removesuffix(":incomplete"),
    parts=(
        Part("length", "LLEN", "saq:{queue}:queued"),
        Part("in_flight", "LLEN", "saq:{queue}:active"),
        # Jobs that are due or running have the score 0.
        Part("delayed", "ZCOUNT", "saq:{queue}:incomplete", ("(0", "+inf")),
        Part("consumers", "ZCOUNT", "saq:{queue}:stats", ("{now}", "+inf")),
    ),
    heads=(Head("LINDEX", "saq:{queue}:queued", (0,), record=("GET", "{id}")),),
    published=_published,
)
