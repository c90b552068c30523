"""Instruments of the application library."""

import asyncio
import subprocess
import sys

import prometheus_client
import pytest

import deckwatch


def sample(name: str, **labels: str) -> float | None:
    return prometheus_client.REGISTRY.get_sample_value(name, labels)


def test_the_same_name_returns_the_same_instrument() -> None:
    assert deckwatch.counter("sdk_same_total", labels=["a"]) is deckwatch.counter("sdk_same_total", labels=("a",))
    assert deckwatch.gauge("sdk_level", mode="max") is deckwatch.gauge("sdk_level", mode="max")
    with pytest.raises(ValueError, match="sdk_same_total"):
        deckwatch.gauge("sdk_same_total")
    with pytest.raises(ValueError, match="sdk_level"):
        deckwatch.gauge("sdk_level", mode="min")


def test_label_sets_beyond_the_limit_are_counted_as_other() -> None:
    orders = deckwatch.counter("sdk_orders_total", labels=["status"], max_series=2)
    for status in ("paid", "open", "lost", "late", "paid"):
        orders.labels(status=status).inc()
    assert sample("sdk_orders_total", status="paid") == 2
    assert sample("sdk_orders_total", status="other") == 2
    assert sample("sdk_orders_total", status="lost") is None


def test_a_wrong_declaration_or_label_is_refused_with_an_explanation() -> None:
    full = deckwatch.counter("sdk_full_total", labels=["status"], max_series=0)
    with pytest.raises(ValueError, match="label count"):
        full.labels()
    with pytest.raises(ValueError, match="label count"):
        full.labels("a", "b")
    with pytest.raises(ValueError, match="args"):
        full.labels("a", status="a")
    with pytest.raises(ValueError, match="label names"):
        full.labels(state="a")
    with pytest.raises(TypeError, match=r'\["status"\]'):
        deckwatch.counter("sdk_text_total", labels="status")
    with pytest.raises(ValueError, match="sum, max, min, last, live"):
        deckwatch.gauge("sdk_mode", mode="wrong")  # type: ignore[arg-type]  # the mistake under test


def test_functions_coroutines_and_blocks_are_timed_and_counted() -> None:
    @deckwatch.timed("sdk_work_seconds")
    @deckwatch.counted("sdk_work_total", labels={"kind": "sync"})
    def work() -> int:
        return 1

    @deckwatch.timed("sdk_work_seconds")
    async def fail() -> None:
        raise KeyError

    assert work() == 1
    with pytest.raises(KeyError):
        asyncio.run(fail())
    with deckwatch.timed("sdk_work_seconds"):
        pass
    assert sample("sdk_work_seconds_count") == 3
    assert sample("sdk_work_total", kind="sync") == 1


def test_importing_instruments_loads_prometheus_client_and_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import deckwatch; deckwatch.counter;"
        "print(*{m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(found) == ["deckwatch", "prometheus_client"]
