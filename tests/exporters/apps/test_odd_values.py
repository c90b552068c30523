"""Files of applications with odd keys and values: each costs its own series, and the other services lose nothing."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counting_app import collect
from deckwatch_exporters.apps.archive import NAME

if TYPE_CHECKING:
    from pathlib import Path

    from deckwatch.testing import Collected

LABELS = {"status": "paid"}
#: The entries of each kind of file: key and value.
FILES: dict[str, list[tuple[list[Any], float]]] = {
    "counter": [(["orders", "orders_total", LABELS, "Orders."], 3.0), (["hits", "hits_total", {}, "Hits."], 1.0)],
    "gauge_livesum": [(["busy", "busy", LABELS, "Busy."], 2.0), (["free", "free", {}, "Free."], 5.0)],
    "gauge_mostrecent": [(["at", "at", {}, "At."], 7.0)],
    "histogram": [
        (["took", "took_bucket", {"le": "1.0"}, "Took."], 1.0),
        (["took", "took_bucket", {"le": "+Inf"}, "Took."], 1.0),
        (["took", "took_sum", {}, "Took."], 2.5),
        (["idle", "idle_bucket", {"le": "+Inf"}, "Idle."], 4.0),
    ],
    "summary": [(["wait", "wait_count", {}, "Wait."], 1.0), (["wait", "wait_sum", {}, "Wait."], 2.0)],
}
EVERY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD: tuple[Any, ...] = (
    None, "", "(null)", -5, 2**70, 1e999, "\ud800", "\x00", "a b", "a\nb", [], [[]], {}, {"a": None}, {"le": "x"},
    {"le": "nan"}, {"le": "-1"}, {"": "x"}, {"a b": "x"}, {"__name__": "x"}, {"service": "other"}, {"quantile": "x"},
)  # fmt: skip


def _entry(key: bytes, value: float) -> bytes:
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    return struct.pack("i", len(key)) + padded + struct.pack("dd", value, 1.7e9)


def _content(entries: list[tuple[bytes, float]]) -> bytes:
    data = b"".join(_entry(key, value) for key, value in entries)
    return struct.pack("ii", 8 + len(data), 0) + data


def _keys(entries: list[tuple[list[Any], float]]) -> list[tuple[bytes, float]]:
    return [(json.dumps(key).encode(), value) for key, value in entries]


class Applications:
    """Two services with the same files; only those of `shop` are changed. The process with id 1 always lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for service in ("shop", "bank"):
            (folder / service).mkdir()
            for kind, entries in FILES.items():
                self.write(kind, _content(_keys(entries)), service)
        self.base = collect(folder).values

    def write(self, kind: str, content: bytes, service: str = "shop") -> None:
        (self._folder / service / f"{kind}_1.db").write_bytes(content)

    def collect_with(self, kind: str, content: bytes) -> Collected:
        self.write(kind, content)
        try:
            collected = collect(self._folder)
        finally:
            self.write(kind, _content(_keys(FILES[kind])))
        assert collected.errors == {}
        bank = {name: it for name, it in self.base.items() if "bank" in name and not name.startswith("process_")}
        assert bank.items() <= collected.values.items()
        return collected


@pytest.fixture(scope="module")
def applications(tmp_path_factory: pytest.TempPathFactory) -> Applications:
    return Applications(tmp_path_factory.mktemp("apps"))


def _others(values: dict[str, float], *but: str) -> dict[str, float]:
    """Return the values of the metrics of `shop`, except those that begin with `but`."""
    own = ("deckwatch_apps_", "process_", *but)
    return {name: it for name, it in values.items() if not name.startswith(own) and 'service="shop"' in name}


def test_each_file_has_its_series(applications: Applications) -> None:
    for kind, entries in FILES.items():
        for (metric, *_), _ in entries:
            assert [name for name in applications.base if name.startswith(metric) and "shop" in name], kind


@given(data=st.data())
@EVERY
def test_an_odd_key_affects_only_its_metric_and_is_counted(applications: Applications, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(FILES)))
    number = data.draw(st.integers(0, len(FILES[kind]) - 1))
    key, value = FILES[kind][number]
    changed = list(key)
    place = data.draw(st.integers(0, 2))  # the metric, the series or the labels
    changed[place] = data.draw(st.sampled_from(ODD))
    entries = _keys(FILES[kind])
    entries[number] = json.dumps(changed).encode(), value

    found = applications.collect_with(kind, _content(entries))

    assert _others(applications.base, key[0]).items() <= found.values.items()
    if not isinstance(changed[2], dict):
        assert len(found.malformed) == 1


@given(data=st.data())
@EVERY
def test_an_odd_entry_is_damage_or_affects_only_itself(applications: Applications, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(FILES)))
    entries = _keys(FILES[kind])
    number = data.draw(st.integers(0, len(entries) - 1))
    garbage = data.draw(st.sampled_from([b"x", b"[]", b"{}", b"\xff\xfe", b"[1, 2, 3]", b"null", b'"a"', b"[" * 5000]))
    how = data.draw(st.sampled_from(["replace", "insert", "drop", "repeat"]))
    entries[number : number + 1] = {
        "replace": [(garbage, 1.0)],
        "insert": [(garbage, 1.0), entries[number]],
        "drop": [],
        "repeat": [entries[number]] * 2,
    }[how]
    metric = FILES[kind][number][0][0]

    found = applications.collect_with(kind, _content(entries))

    assert _others(applications.base, metric).items() <= found.values.items()
    if how in ("replace", "insert"):
        assert len(found.malformed) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -5.0, 1e308])
@pytest.mark.parametrize("kind", sorted(FILES))
def test_an_odd_value_affects_only_its_metric(applications: Applications, kind: str, value: float) -> None:
    (key, _), *others = FILES[kind]

    found = applications.collect_with(kind, _content(_keys([(key, value), *others])))

    assert _others(applications.base, key[0]).items() <= found.values.items()
    if kind in ("counter", "histogram", "summary") and not value >= 0:
        assert len(found.malformed) == 1
        assert {name for name in found.values if name.startswith(key[0]) and "shop" in name} <= {
            'wait_sum{service="shop"}'
        }


@given(data=st.data())
@EVERY
def test_any_damage_to_a_file_costs_no_other_file(applications: Applications, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(FILES)))
    content = _content(_keys(FILES[kind]))
    position = data.draw(st.integers(0, len(content) - 1))
    odd = data.draw(st.binary(min_size=1, max_size=8))

    found = applications.collect_with(kind, content[:position] + odd + content[position + len(odd) :])

    metrics = tuple({key[0] for key, _ in FILES[kind]})
    assert _others(applications.base, *metrics).items() <= found.values.items()


@pytest.mark.parametrize(
    "archive",
    [
        b"", b"[]", b"null", b"\xff", b"{}", b'{"version": "2"}', b'{"version": null}', b"[" * 100_000,
        b'{"version": 2, "totals": {"counter": {"x": 1}}, "included": []}',
        b'{"version": 2, "totals": {"counter": []}, "included": []}',
        b'{"version": 2, "totals": {}, "included": [1]}',
        b'{"version": 2, "totals": {}, "included": [], "gauges": {"max": {"x": 1}}}',
    ],
)  # fmt: skip
def test_a_damaged_archive_costs_only_its_service(tmp_path: Path, archive: bytes) -> None:
    applications = Applications(tmp_path)
    (tmp_path / "shop" / NAME).write_bytes(archive)

    found = applications.collect_with("counter", _content(_keys(FILES["counter"])))

    assert found.malformed == ["service shop"]
    assert found.value("deckwatch_apps_files_skipped", service="shop") == 1
