"""BullMQ: `bull:NAME:wait`, `paused` and `active` are lists of job ids, other states sorted sets, jobs hashes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deckwatch_exporters.clients.redis.patterns import escape_pattern

from .redis_broker import RedisBroker, RedisQueuesSettings
from .redis_layout import Head, Layout, LayoutBroker, Part

_META = ":meta"


class BullmqSettings(RedisQueuesSettings):
    """BullMQ; `prefix` is the option of its queues."""

    kind: Literal["bullmq"]
    prefix: str = Field(default="bull", min_length=1)


def bullmq_broker(settings: BullmqSettings, redis: RedisBroker | None = None) -> LayoutBroker:
    start = f"{settings.prefix}:"
    # A prefix such as {bull} keeps the keys of a queue in one slot of a cluster.
    key = start.replace("{", "{{").replace("}", "}}") + "{queue}"
    record = ("HGET", f"{key}:{{id}}", "timestamp")
    return LayoutBroker(
        settings,
        Layout(
            kind="bullmq",
            pattern=f"{escape_pattern(start)}*{_META}",
            queue_of=lambda found: found.removeprefix(start).removesuffix(_META),
            parts=(
                Part("length", "LLEN", f"{key}:wait"),
                Part("length", "LLEN", f"{key}:paused"),
                Part("length", "ZCARD", f"{key}:prioritized"),
                Part("in_flight", "LLEN", f"{key}:active"),
                Part("delayed", "ZCARD", f"{key}:delayed"),
                Part("dead", "ZCARD", f"{key}:failed"),
            ),
            heads=(
                Head("LINDEX", f"{key}:wait", (-1,), record),
                Head("LINDEX", f"{key}:paused", (-1,), record),
                Head("ZRANGE", f"{key}:prioritized", (0, 0), record),
            ),
        ),
        redis,
    )
