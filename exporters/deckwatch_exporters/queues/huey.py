"""Huey on Redis: `huey.redis.NAME` is a list, with priorities a sorted set; `huey.schedule.NAME` a sorted set."""

from __future__ import annotations

from typing import Literal

from .redis_broker import RedisBroker, RedisQueuesSettings
from .redis_layout import Head, Layout, LayoutBroker, Part

_PREFIX = "huey.redis."


class HueySettings(RedisQueuesSettings):
    """Huey's Redis storage; `priorities` for PriorityRedisHuey. Its messages carry no time."""

    kind: Literal["huey"]
    priorities: bool = False


def huey_broker(settings: HueySettings, redis: RedisBroker | None = None) -> LayoutBroker:
    queue = f"{_PREFIX}{{queue}}"
    return LayoutBroker(
        settings,
        Layout(
            kind="huey",
            pattern=f"{_PREFIX}*",
            queue_of=lambda key: key.removeprefix(_PREFIX),
            parts=(
                Part("length", "ZCARD" if settings.priorities else "LLEN", queue),
                Part("delayed", "ZCARD", "huey.schedule.{queue}"),
            ),
            # The head of a queue with priorities is not its oldest message.
            heads=() if settings.priorities else (Head("LINDEX", queue, (-1,)),),
            published=lambda _message: None,
        ),
        redis,
    )
