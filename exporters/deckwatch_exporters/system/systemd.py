"""Units by state, timers and sockets, from systemd over D-Bus (org.freedesktop.systemd1(5))."""

from __future__ import annotations

import collections
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from deckwatch.exporter import Counter, Duration, Gauge, NotAvailable, Pattern, Settings

from .dbus_wire import Connection, MalformedReply, Refused
from .parse_numbers import MalformedValues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.exporter import Samples

    from .paths import Paths

STATES = ("active", "activating", "deactivating", "inactive", "failed")

UNITS = Gauge("node_systemd_units", "Number of units in each state.", ["state"])
UNIT_STATE = Gauge(
    "node_systemd_unit_state", "Whether the unit is in this state (1) or not (0).", ["name", "state", "type"]
)
RUNNING = Gauge("node_systemd_system_running", "Whether the system is in the state `running` (1) or another one (0).")
VERSION = Gauge("node_systemd_version", "Version of systemd as a number (major.minor).", ["version"])
VIRTUALIZATION = Gauge(
    "node_systemd_virtualization_info",
    "Virtualization detected by systemd; the value is always 1.",
    ["virtualization_type"],
)
TIMER = Gauge(
    "node_systemd_timer_last_trigger_seconds", "Time at which the timer was last triggered, in Unix seconds.", ["name"]
)
ACCEPTED = Counter(
    "node_systemd_socket_accepted_connections_total", "Number of connections accepted by the socket.", ["name"]
)
CURRENT = Gauge("node_systemd_socket_current_connections", "Number of open connections of the socket.", ["name"])
REFUSED = Counter(
    "node_systemd_socket_refused_connections_total", "Number of connections refused by the socket.", ["name"]
)

_BUS_NAME = "org.freedesktop.systemd1"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_NEVER = (1 << 64) - 1  # how systemd says that a time is not set
_SOCKET_PROPERTIES = (("NAccepted", ACCEPTED), ("NConnections", CURRENT), ("NRefused", REFUSED))


_T = TypeVar("_T", str, int)


class SystemdSettings(Settings):
    """`unit_include` and `unit_exclude`: regular expressions for the units to export; the defaults are node_exporter's.

    `timeout`: time limit of each read, in seconds.
    """

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

    def collect(self) -> Samples:
        if not os.path.isdir(self._booted):  # as in sd_booted(3)
            raise NotAvailable
        malformed = MalformedValues()
        with self._connect() as connection:
            version, state, virtualization = _properties(
                connection,
                [(_MANAGER_PATH, _MANAGER, name) for name in ("Version", "SystemState", "Virtualization")],
                str,
                malformed,
            )
            if version is not None and (number := parse_version(version, malformed)) is not None:
                yield VERSION(number, version=version)
            if state is not None:
                yield RUNNING(state == "running")
            if virtualization is not None:
                yield VIRTUALIZATION(1, virtualization_type=virtualization or "none")
            units = _list_units(connection, malformed)
            if units is not None:
                exported = [unit for unit in units if self._exports(unit.name)]
                yield from _states(units, exported)
                yield from _timers(connection, [unit for unit in exported if unit.kind == "timer"], malformed)
                yield from _sockets(connection, [unit for unit in exported if unit.kind == "socket"], malformed)
        yield from malformed

    def _connect(self) -> Connection:
        """Connect to the system bus, or else to the private socket of systemd (root only)."""
        try:
            return Connection(self._bus, hello=True, timeout=self._settings.timeout)
        except OSError:
            return Connection(self._private, hello=False, timeout=self._settings.timeout)

    def _exports(self, name: str) -> bool:
        settings = self._settings
        return bool(settings.unit_include.fullmatch(name)) and not settings.unit_exclude.fullmatch(name)


def _states(units: Sequence[Unit], exported: Sequence[Unit]) -> Samples:
    summary = collections.Counter(dict.fromkeys(STATES, 0))
    summary.update(unit.state for unit in units if unit.state in STATES)
    for state, number in summary.items():
        yield UNITS(number, state=state)
    for unit in exported:
        for state in STATES:
            yield UNIT_STATE(state == unit.state, name=unit.name, state=state, type="")


def _list_units(connection: Connection, malformed: MalformedValues) -> list[Unit] | None:
    """The loaded units; None if the reply is malformed."""
    try:
        (listed,) = connection.call(_BUS_NAME, _MANAGER_PATH, _MANAGER, "ListUnits")
        if not isinstance(listed, list):
            raise MalformedReply(f"not a list: {listed}")
    except (MalformedReply, ValueError) as wrong:
        malformed.add("systemd: ListUnits", str(wrong))
        return None
    return parse_units(listed, malformed)


def _timers(connection: Connection, units: Sequence[Unit], malformed: MalformedValues) -> Samples:
    wanted = [(unit.path, "org.freedesktop.systemd1.Timer", "LastTriggerUSec") for unit in units]
    for unit, microseconds in zip(units, _properties(connection, wanted, int, malformed), strict=True):
        if microseconds is not None and microseconds < _NEVER:
            yield TIMER(microseconds / 1e6, name=unit.name)


def _sockets(connection: Connection, units: Sequence[Unit], malformed: MalformedValues) -> Samples:
    wanted = [(unit.path, "org.freedesktop.systemd1.Socket", name) for unit in units for name, _ in _SOCKET_PROPERTIES]
    values = iter(_properties(connection, wanted, int, malformed))
    for unit in units:
        for _, metric in _SOCKET_PROPERTIES:
            value = next(values)
            if value is not None:  # NRefused exists since systemd 239
                yield metric(value, name=unit.name)


def _properties(
    connection: Connection, wanted: Sequence[tuple[str, str, str]], kind: type[_T], malformed: MalformedValues
) -> list[_T | None]:
    """Get properties of objects (path, interface, name) in batches; None for one that is refused or malformed."""
    values: list[_T | None] = []
    for batch in (wanted[start : start + 64] for start in range(0, len(wanted), 64)):
        serials = [
            connection.send(_BUS_NAME, path, _PROPERTIES, "Get", interface, name) for path, interface, name in batch
        ]
        for (path, _, name), serial in zip(batch, serials, strict=True):
            value = None
            try:
                (value,) = connection.reply(serial)
            except Refused:
                values.append(None)
                continue
            except (MalformedReply, ValueError) as wrong:
                malformed.add(f"systemd: {path} {name}", str(wrong))
            else:
                if not isinstance(value, kind) or (isinstance(value, int) and value < 0):
                    malformed.add(f"systemd: {path} {name}", repr(value))
                    value = None
            values.append(value)
    return values


def parse_units(listed: Sequence[Any], malformed: MalformedValues) -> list[Unit]:
    """The loaded units in a reply of ListUnits: name, description, load state, active state, ..., object path at 6."""
    units: dict[str, Unit] = {}
    for fields in listed:
        if (
            not isinstance(fields, tuple)
            or len(fields) < 7
            or not all(isinstance(fields[index], str) for index in (0, 2, 3, 6))
        ):
            malformed.add("systemd: ListUnits", str(fields))
        elif fields[2] == "loaded":
            unit = Unit(fields[0], fields[3], fields[6])
            if units.setdefault(unit.name, unit) is not unit:
                malformed.add("systemd: ListUnits", f"{unit.name} (repeated)")
    return list(units.values())


def parse_version(text: str, malformed: MalformedValues) -> float | None:
    """`252.39-1~deb12u1` and `v252` as a number."""
    match = re.match(r"v?([0-9]{1,9}(?:\.[0-9]{1,9})?)", text)
    if match is None:
        malformed.add("systemd: Version", text)
        return None
    return float(match[1])
