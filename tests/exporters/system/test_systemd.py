"""systemd over D-Bus: the wire client against the real dbus-daemon, the collector against a strict peer."""

from __future__ import annotations

import re
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.dbus_wire import Connection, DBusError, Reader
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.systemd import Systemd, SystemdSettings, parse_version
from services import installed, until

from .support import by_series
from .systemd_peer import FakeSystemd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[str]:
    """A real message bus on a private socket."""
    path = tmp_path / "bus"
    config = tmp_path / "bus.conf"
    config.write_text(
        f"<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>"
        '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow own="*"/>'
        '<allow eavesdrop="true"/></policy></busconfig>'
    )
    daemon = subprocess.Popen([installed("dbus-daemon"), f"--config-file={config}", "--nofork"])
    until(path.exists)
    yield str(path)
    daemon.terminate()
    daemon.wait()


def test_the_client_works_with_the_real_bus(bus: str) -> None:
    name = "org.freedesktop.DBus"
    with Connection(bus, hello=True) as connection:
        (names,) = connection.call(name, "/org/freedesktop/DBus", name, "ListNames")
        (owner,) = connection.call(name, "/org/freedesktop/DBus", name, "GetNameOwner", name)
        (features,) = connection.call(
            name, "/org/freedesktop/DBus", "org.freedesktop.DBus.Properties", "Get", name, "Features"
        )

    assert name in names
    assert any(re.fullmatch(r":1\.\d+", entry) for entry in names)
    assert owner == name
    assert isinstance(features, list)


def test_a_call_rejected_by_the_real_bus_raises_its_error_message(bus: str) -> None:
    name = "org.freedesktop.DBus"
    with Connection(bus, hello=True) as connection, pytest.raises(DBusError, match="nobody"):
        connection.call(name, "/org/freedesktop/DBus", name, "GetNameOwner", "org.example.nobody")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "run" / "systemd" / "system").mkdir(parents=True)
    fake = FakeSystemd(tmp_path / "run" / "systemd" / "private")
    fake.start()
    yield tmp_path
    fake.server.close()


def test_units_timers_and_sockets_are_exposed_as_in_node_exporter(host: Path) -> None:
    series = by_series(Systemd(Paths(root=str(host)), SystemdSettings()).collect())

    assert series['node_systemd_units{state="active"}'] == 4
    assert series['node_systemd_units{state="failed"}'] == 1
    assert series['node_systemd_unit_state{name="broken.service",state="failed",type=""}'] == 1
    assert series['node_systemd_unit_state{name="broken.service",state="active",type=""}'] == 0
    assert not any("gone.service" in name or "-.mount" in name for name in series)
    assert series['node_systemd_virtualization_info{virtualization_type="kvm"}'] == 1
    assert series['node_systemd_version{version="252.39-1~deb12u1"}'] == 252.39
    assert series["node_systemd_system_running"] == 0
    assert series['node_systemd_timer_last_trigger_seconds{name="daily.timer"}'] == 1_700_000_000
    assert series['node_systemd_socket_accepted_connections_total{name="ssh.socket"}'] == 7
    assert series['node_systemd_socket_current_connections{name="ssh.socket"}'] == 2
    assert 'node_systemd_socket_refused_connections_total{name="ssh.socket"}' not in series


@pytest.mark.parametrize(
    ("settings", "exported"),
    [
        ({}, {"cron.service", "broken.service", "daily.timer", "ssh.socket"}),
        ({"unit_include": ".+\\.service"}, {"cron.service", "broken.service"}),
        ({"unit_exclude": ".+\\.service"}, {"daily.timer", "ssh.socket", "-.mount"}),
    ],
)
def test_the_units_to_export_are_configurable(host: Path, settings: dict[str, str], exported: set[str]) -> None:
    found = by_series(Systemd(Paths(root=str(host)), SystemdSettings.model_validate(settings)).collect())

    states = [series for series in found if series.startswith("node_systemd_unit_state")]
    assert {series.split('"')[1] for series in states} == exported


def test_a_host_without_systemd_has_no_units(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Systemd(Paths(root=str(tmp_path)), SystemdSettings()).collect())


def test_an_unresponsive_systemd_is_an_error_within_the_timeout(tmp_path: Path) -> None:
    (tmp_path / "run" / "systemd" / "system").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "run" / "systemd" / "private"))
        silent.listen()
        settings = SystemdSettings.model_validate({"timeout": "100ms"})

        with pytest.raises(TimeoutError):
            list(Systemd(Paths(root=str(tmp_path)), settings).collect())


@given(st.binary(), st.sampled_from(["a(ssssssouso)", "v", "s", "a{sv}", "(yv)", "aat", "g"]))
def test_any_bytes_are_parsed_or_rejected(data: bytes, signature: str) -> None:
    try:
        values = Reader(data, "<").values(signature)
    except DBusError:
        values = [None]
    assert len(values) == 1


@pytest.mark.parametrize(("text", "version"), [("252.39-1~deb12u1", 252.39), ("v252", 252), ("249", 249)])
def test_versions_are_parsed_as_numbers(text: str, version: float) -> None:
    assert parse_version(text, MalformedValues()) == version
