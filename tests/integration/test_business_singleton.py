"""Of several agents with the same business target, one reads the figures."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import TYPE_CHECKING

import pytest

from databases import postgres_server, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.business import EXPORTER
from services import Program, agent, fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def source(kind: str, folder: Path) -> Iterator[dict[str, object]]:
    """A real source and the settings for it."""
    if kind == "postgres":
        with postgres_server() as server:
            yield {"dsn": server.dsn(), "metrics": [{"name": "shop_orders", "query": "SELECT 5 AS value"}]}
    else:
        with redis_server(folder) as redis:
            metrics = [{"name": "shop_orders", "query": "SCAN order:*"}]
            yield {"redis": {"url": redis.url}, "metrics": metrics}


def reports(program: Program) -> bool:
    return "\nshop_orders{" in fetch(program.url + "/metrics")[1]


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_one_agent_reports_and_the_other_takes_over_when_it_hangs_or_dies(kind: str, tmp_path: Path) -> None:
    with source(kind, tmp_path) as settings, contextlib.ExitStack() as stack:
        target = {"name": "shop", "schedule": "1s", "singleton": True, **settings}
        config = json.dumps({"interval": "1s", "exporters": {"business": [target]}})
        agents = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            agents.append(stack.enter_context(agent(tmp_path / name, config)))

        def holders() -> list[Program]:
            return [program for program in agents if program.process.poll() is None and reports(program)]

        (first,) = until(holders, what="an agent that reports")
        (second,) = [program for program in agents if program is not first]
        assert not reports(second)

        first.process.send_signal(signal.SIGSTOP)
        until(lambda: reports(second), what="the other agent reporting")
        first.process.send_signal(signal.SIGCONT)
        until(lambda: 'singleton_holder{target="shop"} 0' in fetch(first.url + "/metrics")[1], what="it noticing")
        assert not reports(first)
        assert reports(second)

        second.process.kill()
        second.process.wait()
        until(lambda: reports(first), what="the first agent reporting again")


def test_behind_a_source_without_the_right_the_reason_is_shown(tmp_path: Path) -> None:
    with redis_server(tmp_path, password="SECRET") as server:
        with server.client() as client:
            client.acl_setuser("plain", enabled=True, passwords=["+word"], commands=["+ping", "+scan"], keys=["*"])
        redis = {"url": f"redis://plain:word@127.0.0.1:{server.port}/0"}
        metrics = [{"name": "shop_orders", "query": "SCAN order:*"}]
        with opened(EXPORTER, {"redis": redis, "metrics": metrics, "singleton": True}, name="shop") as target:
            collected = target.collect()
    assert "shop_orders" not in collected.values
    assert collected.value("deckwatch_business_singleton_holder") == 0
    assert any("+eval" in lack.what for one in collected.snapshots.values() for lack in one.lacks)
