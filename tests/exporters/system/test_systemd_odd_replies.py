"""Odd replies of systemd: each affects only its own series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.systemd import Systemd, SystemdSettings

from .support import by_series, malformed
from .systemd_peer import PROPERTIES, UNITS, FakeSystemd, variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from deckwatch.exporter import Malformed, Sample


class Host:
    """A host with a fake systemd."""

    def __init__(self, root: Path) -> None:
        (root / "run/systemd/system").mkdir(parents=True)
        self.peer = FakeSystemd(root / "run/systemd/private")
        self.peer.start()
        self._root = root
        self.base = by_series(self.collect({}))

    def collect(
        self, replaced: Mapping[str, tuple[str, bytes]], units: list[tuple[str | bytes | int, ...]] | None = None
    ) -> list[Sample | Malformed]:
        self.peer.replaced = dict(replaced)
        self.peer.units = list(UNITS if units is None else units)
        return list(Systemd(Paths(root=str(self._root)), SystemdSettings()).collect())


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    found = Host(tmp_path_factory.mktemp("host"))
    yield found
    found.peer.server.close()


#: The series of each property.
SERIES = {
    "Version": "node_systemd_version",
    "SystemState": "node_systemd_system_running",
    "Virtualization": "node_systemd_virtualization_info",
    "LastTriggerUSec": "node_systemd_timer_last_trigger_seconds",
    "NAccepted": "node_systemd_socket_accepted_connections_total",
    "NConnections": "node_systemd_socket_current_connections",
}
ODD_VALUES: dict[str, tuple[str, bytes]] = {
    "no value": ("", b""),
    "empty signature": ("v", b"\0\0"),
    "nested 100 times": ("v", b"\1v\0" * 100 + b"\1y\0x"),
    "unknown type": ("v", b"\1!\0x"),
    "ends early": ("v", b"\1t\0\1"),
    "array without type": ("v", b"\1a\0\0\4\0\0\0abcd"),
    "negative": ("v", variant("x", -5)),
    "empty structs": ("v", b"\3a()\0\0\0\0\x10\0\0\0" + bytes(40)),
    "array": ("v", b"\2ay\0\0\0\0\0"),
}


def test_each_property_has_its_series(host: Host) -> None:
    assert {name for _, name in PROPERTIES} == SERIES.keys()
    for name in SERIES.values():
        assert [series for series in host.base if series.startswith(name)]


@pytest.mark.parametrize("property", SERIES)
@pytest.mark.parametrize("odd", [*ODD_VALUES, "undecodable"])
def test_an_odd_property_affects_only_its_series_and_is_counted(host: Host, property: str, odd: str) -> None:
    reply = ("v", variant("s", b"\xff\xfe")) if odd == "undecodable" else ODD_VALUES[odd]

    found = host.collect({property: reply})

    kept = {series: value for series, value in host.base.items() if not series.startswith(SERIES[property])}
    assert kept.items() <= by_series(found).items()
    if odd == "undecodable" and property in ("SystemState", "Virtualization"):  # any text is valid
        assert malformed(found) == []
    else:
        assert [what.rpartition(" ")[2] for what, _ in malformed(found)] == [property]


@given(
    data=st.binary(max_size=400),
    property=st.sampled_from(sorted(SERIES)),
    signature=st.sampled_from(["v", "s", "a{sv}"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_reply_for_a_property_affects_only_its_series(
    host: Host, data: bytes, property: str, signature: str
) -> None:
    found = by_series(host.collect({property: (signature, data)}))

    kept = {series: value for series, value in host.base.items() if not series.startswith(SERIES[property])}
    assert kept.items() <= found.items()


@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_odd_unit_affects_only_its_own_series(host: Host, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(UNITS) - 1))
    unit = list(UNITS[number])
    field = data.draw(st.sampled_from([0, 1, 2, 3, 4, 6]))
    unit[field] = data.draw(
        st.sampled_from(["", "(null)", "-5", b"\xff\xfe", "a\nb", "9" * 300, UNITS[number - 1][field]])
    )
    units = [*UNITS[:number], tuple(unit), *UNITS[number + 1 :]]

    found = by_series(host.collect({}, units))

    own = {str(UNITS[number][0]), str(UNITS[number - 1][0])}
    lost = {series for series in host.base if found.get(series) != host.base[series]}
    assert all(
        series.startswith("node_systemd_units{") or any(f'name="{name}"' in series for name in own) for series in lost
    )


def test_units_in_another_order_or_repeated_change_nothing(host: Host) -> None:
    assert by_series(host.collect({}, UNITS[::-1])) == host.base
    again = host.collect({}, [*UNITS, UNITS[0]])
    assert by_series(again) == host.base
    assert [what for what, _ in malformed(again)] == ["systemd: ListUnits"]


@pytest.mark.parametrize(
    "reply",
    [
        ("", b""),
        ("as", b"\6\0\0\0\1\0\0\0x\0"),
        ("s", b"\1\0\0\0x\0"),
        ("a(ssssssouso)", b"\xff\0\0\0"),
        ("t", b"\1" * 8),
    ],
)
def test_a_malformed_list_of_units_affects_only_the_units(host: Host, reply: tuple[str, bytes]) -> None:
    found = host.collect({"ListUnits": reply})

    served = by_series(found)
    assert {series.partition("{")[0] for series in served if not series.startswith("node_systemd_units")} == {
        "node_systemd_system_running",
        "node_systemd_version",
        "node_systemd_virtualization_info",
    }
    assert [what for what, _ in malformed(found)] == ["systemd: ListUnits"]
