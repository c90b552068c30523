"""systemd's units by state, timers and sockets, asked over D-Bus (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import collections
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from deckwatch.exporter import Counter, Duration, Gauge, NotAvailable, Pattern, Settings

from .dbus_wire import Connection, DBusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Sample

    from .paths import Paths

STATES = ("active", "activating", "deactivating", "inactive", "failed")

UNITS = Gauge("node_systemd_units", "Units in each state.", ["state"])
UNIT_STATE = Gauge("node_systemd_unit_state", "Whether the unit is in this state.", ["name", "state", "type"])
RUNNING = Gauge("node_systemd_system_running", "Whether the whole system is in the state `running`.")
VERSION = Gauge("node_systemd_version", "systemd's version.", ["version"])
VIRTUALIZATION = Gauge(
    "node_systemd_virtualization_info",
    "Virtualization that systemd has detected: its name, or none.",
    ["virtualization_type"],
)
TIMER = Gauge(
    "node_systemd_timer_last_trigger_seconds", "When the timer was triggered last, in Unix seconds.", ["name"]
)
ACCEPTED = Counter("node_systemd_socket_accepted_connections_total", "Connections accepted by the socket.", ["name"])
CURRENT = Gauge("node_systemd_socket_current_connections", "Open connections of the socket.", ["name"])
REFUSED = Counter("node_systemd_socket_refused_connections_total", "Connections refused by the socket.", ["name"])

_BUS_NAME = "org.freedesktop.systemd1"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_SOCKET_FIGURES = (("NAccepted", ACCEPTED), ("NConnections", CURRENT), ("NRefused", REFUSED))


class SystemdSettings(Settings):
    """Which units have series of their own (defaults: node_exporter's); how long (seconds) an answer may take."""

    unit_include: Pattern = Pattern(r".+")
    unit_exclude: Pattern = Pattern(r".+\.(automount|device|mount|scope|slice)")
    timeout: Duration = 2.0


class Unit(NamedTuple):
    name: str
    state: str
    path: str

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]


class Systemd:
    def __init__(self, paths: Paths, settings: SystemdSettings) -> None:
        self._booted = paths.in_root("/run/systemd/system")
        self._bus = paths.in_root("/run/dbus/system_bus_socket")
        self._private = paths.in_root("/run/systemd/private")
        self._settings = settings

    def collect(self) -> Iterator[Sample]:
        if not os.path.isdir(self._booted):  # how sd_booted(3) finds out
            raise NotAvailable
        with self._connect() as connection:
            version, state, virtualization = _properties(
                connection, [(_MANAGER_PATH, _MANAGER, name) for name in ("Version", "SystemState", "Virtualization")]
            )
            answer = connection.call(_BUS_NAME, _MANAGER_PATH, _MANAGER, "ListUnits")
            units = parse_units(answer[0])
            wanted = [unit for unit in units if self._wants(unit.name)]
            yield VERSION(parse_version(str(version)), version=str(version))
            yield RUNNING(state == "running")
            if isinstance(virtualization, str):
                yield VIRTUALIZATION(1, virtualization_type=virtualization or "none")
            yield from _states(units, wanted)
            yield from _timers(connection, [unit for unit in wanted if unit.kind == "timer"])
            yield from _sockets(connection, [unit for unit in wanted if unit.kind == "socket"])

    def _connect(self) -> Connection:
        """The system bus, or systemd's own socket, which is for root and works without a bus."""
        try:
            return Connection(self._bus, hello=True, timeout=self._settings.timeout)
        except OSError:
            return Connection(self._private, hello=False, timeout=self._settings.timeout)

    def _wants(self, name: str) -> bool:
        settings = self._settings
        return bool(settings.unit_include.fullmatch(name)) and not settings.unit_exclude.fullmatch(name)


def _states(units: Sequence[Unit], wanted: Sequence[Unit]) -> Iterator[Sample]:
    summary = collections.Counter(dict.fromkeys(STATES, 0))
    summary.update(unit.state for unit in units if unit.state in STATES)
    for state, number in summary.items():
        yield UNITS(number, state=state)
    for unit in wanted:
        for state in STATES:
            yield UNIT_STATE(state == unit.state, name=unit.name, state=state, type="")


def _timers(connection: Connection, units: Sequence[Unit]) -> Iterator[Sample]:
    wanted = [(unit.path, "org.freedesktop.systemd1.Timer", "LastTriggerUSec") for unit in units]
    for unit, microseconds in zip(units, _properties(connection, wanted), strict=True):
        if isinstance(microseconds, int):
            yield TIMER(microseconds / 1e6, name=unit.name)


def _sockets(connection: Connection, units: Sequence[Unit]) -> Iterator[Sample]:
    wanted = [(unit.path, "org.freedesktop.systemd1.Socket", name) for unit in units for name, _ in _SOCKET_FIGURES]
    figures = iter(_properties(connection, wanted))
    for unit in units:
        for _, metric in _SOCKET_FIGURES:
            figure = next(figures)
            if isinstance(figure, int):  # NRefused is not there before systemd 239
                yield metric(figure, name=unit.name)


def _properties(connection: Connection, wanted: Sequence[tuple[str, str, str]]) -> list[Any]:
    """Properties of objects (path, interface, name), asked for in batches; None for what is refused."""
    values: list[Any] = []
    for batch in (wanted[start : start + 64] for start in range(0, len(wanted), 64)):
        serials = [
            connection.send(_BUS_NAME, path, _PROPERTIES, "Get", interface, name) for path, interface, name in batch
        ]
        for serial in serials:
            try:
                values.append(connection.reply(serial)[0])
            except DBusError:
                values.append(None)
    return values


def parse_units(listed: Sequence[Sequence[Any]]) -> list[Unit]:
    """The loaded units of ListUnits' answer: name, description, load state, active state, ..., object path at 6."""
    return [Unit(unit[0], unit[3], unit[6]) for unit in listed if unit[2] == "loaded"]


def parse_version(text: str) -> float:
    """`252.39-1~deb12u1` and `v252` as a number. Raises ValueError."""
    match = re.match(r"v?(\d+(?:\.\d+)?)", text)
    if match is None:
        raise ValueError(f"systemd's version is {text[:40]!r}")
    return float(match[1])
