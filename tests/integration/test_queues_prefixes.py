"""Queues with a configured prefix of their keys: only their own keys are found, also if the prefix has wildcards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from databases import redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.support import queues_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("prefix", ["a[1]", "a*", "a?", "a\\b", "a^[^b]", "{a}"])
def test_a_prefix_with_wildcards_finds_its_own_queues_alone(tmp_path: Path, prefix: str) -> None:
    others = ["a1", "a^", "ab", "a", "axyz", "a\\\\b"]
    with redis_server(tmp_path) as server, server.client() as client:
        for each in (prefix, *others):
            queue = "ours" if each == prefix else "theirs"
            client.hset(f"{each}:{queue}:meta", "version", "5")  # BullMQ
            client.hset(f"{each}:{queue}.msgs", "1", "{}")  # Dramatiq
            client.sadd(f"{each}:_kombu.binding.{queue}", f"{queue}\x06\x16\x06\x16{queue}")  # Celery
        for settings in (
            {"kind": "bullmq", "prefix": prefix},
            {"kind": "dramatiq", "namespace": prefix},
            {"kind": "celery", "global_keyprefix": f"{prefix}:"},
        ):
            with opened(EXPORTER, {**settings, "url": server.url}) as target:
                assert queues_in(target) == {"ours"}, settings["kind"]
