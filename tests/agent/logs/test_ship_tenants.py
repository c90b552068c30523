"""Entries with a tenant: what Loki refuses of one tenant does not stop the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.logs.shipping import Shipping, shipping
from loki import Double, assert_exactly_once, loki
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deckwatch.logs.entry import Labels


@pytest.fixture
def ship(tmp_path: Path) -> Iterator[Shipping]:
    with shipping(tmp_path) as made:
        yield made


def of(tenant: str, job: str = "app") -> Labels:
    return (("__tenant_id__", tenant), ("job", job))


def lines_of(double: Double, tenant: str) -> list[str]:
    with double.lock:
        streams = double.store(tenant).streams.values()
        return [line for stream in streams for _, line, _ in stream.entries]


def test_each_entry_is_stored_for_its_tenant_without_a_label_for_it(ship: Shipping) -> None:
    with loki(tenant="main") as double:
        lines = {tenant: ship.add([f"{tenant} {n}" for n in range(3)], of(tenant)) for tenant in ("a", "b")}
        lines["main"] = ship.add(["main"], (("job", "app"),))
        ship.start(double.url, tenant="main", labels={"env": "test"})
        until(lambda: ship.done)
        for tenant, wanted in lines.items():
            assert_exactly_once(wanted, lines_of(double, tenant))
            with double.lock:
                assert list(double.store(tenant).streams) == [(("env", "test"), ("job", "app"))]


@pytest.mark.parametrize("status", [429, 401, 403])
def test_a_tenant_that_is_refused_waits_while_others_go_on(ship: Shipping, status: int) -> None:
    with loki(tenant="main") as double:
        double.refused_tenants["a"] = status
        ship.start(double.url, tenant="main")
        kept: dict[str, list[str]] = {"a": [], "b": [], "main": []}
        for round_ in range(4):
            for tenant in ("a", "b", "main"):
                labels = (("job", "app"),) if tenant == "main" else of(tenant, f"job{round_}")
                kept[tenant] += ship.add([f"{tenant} {round_} {n}" for n in range(3)], labels)
            until(lambda: len(lines_of(double, "b")) == len(kept["b"]))
            until(lambda: len(lines_of(double, "main")) == len(kept["main"]))
        assert lines_of(double, "a") == []
        assert "tenant a" in ship.counts.failure
        assert not ship.done
        double.refused_tenants.clear()
        until(lambda: ship.done)
        for tenant, wanted in kept.items():
            assert_exactly_once(wanted, lines_of(double, tenant))
        until(lambda: ship.counts.failing_since is None)
    assert ship.set_aside() == []


def test_entries_of_a_refused_tenant_are_sent_after_a_restart(ship: Shipping) -> None:
    with loki(tenant="main") as double:
        double.refused_tenants["a"] = 429
        ship.start(double.url, tenant="main")
        wanted = ship.add([f"{n} {'x' * 1000}" for n in range(500)], of("a"))
        ship.add(["b"], of("b"))
        until(lambda: lines_of(double, "b") == ["b"])
        ship.halt()
        ship.reader.rewind()  # as opening the spool does
        double.refused_tenants.clear()
        ship.start(double.url, tenant="main")
        until(lambda: ship.done)
        assert_exactly_once(wanted, lines_of(double, "a"))
        assert_exactly_once(["b"], lines_of(double, "b"))
