"""A peer that speaks systemd's D-Bus protocol, with replies that a test can change."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

from deckwatch_exporters.system.dbus_wire import Reader

if TYPE_CHECKING:
    from pathlib import Path

UNITS: list[tuple[str | bytes | int, ...]] = [
    ("cron.service", "Cron", "loaded", "active", "running", "", "/u/cron", 0, "", "/"),
    ("broken.service", "Broken", "loaded", "failed", "failed", "", "/u/broken", 0, "", "/"),
    ("gone.service", "Gone", "not-found", "inactive", "dead", "", "/u/gone", 0, "", "/"),
    ("daily.timer", "Daily", "loaded", "active", "waiting", "", "/u/daily", 0, "", "/"),
    ("ssh.socket", "SSH", "loaded", "active", "listening", "", "/u/ssh", 0, "", "/"),
    ("-.mount", "Root", "loaded", "active", "mounted", "", "/u/root", 0, "", "/"),
]
PROPERTIES: dict[tuple[str, str], tuple[str, Any]] = {
    ("/org/freedesktop/systemd1", "Version"): ("s", "252.39-1~deb12u1"),
    ("/org/freedesktop/systemd1", "SystemState"): ("s", "degraded"),
    ("/org/freedesktop/systemd1", "Virtualization"): ("s", "kvm"),
    ("/u/daily", "LastTriggerUSec"): ("t", 1_700_000_000_000_000),
    ("/u/ssh", "NAccepted"): ("u", 7),
    ("/u/ssh", "NConnections"): ("u", 2),
}


class FakeSystemd(threading.Thread):
    """Answers ListUnits and Get like systemd's private socket, and rejects everything unknown."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.units = list(UNITS)
        #: Signature and body of the replies that a test replaces, by `ListUnits` or the name of the property.
        self.replaced: dict[str, tuple[str, bytes]] = {}
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        assert stream.readline().startswith(b"\0AUTH EXTERNAL 3")
        connection.sendall(b"OK 1234deadbeef\r\n")
        assert stream.readline() == b"BEGIN\r\n"
        while start := stream.read(16):
            kind, body_length, serial, fields_length = (
                *struct.unpack("<B", start[1:2]),
                *struct.unpack("<III", start[4:]),
            )
            assert kind == 1
            fields = Reader(stream.read((fields_length + 7) & ~7)[:fields_length], "<")
            header = {}
            while fields.position < fields_length:
                code, value = fields.value("(yv)")
                header[code] = value
            arguments = Reader(stream.read(body_length), "<").values(header.get(8, ""))
            connection.sendall(self.answer(serial, header[1], header[3], arguments))

    def answer(self, serial: int, path: str, member: str, arguments: list[str]) -> bytes:
        what = member if member == "ListUnits" else arguments[1]
        if what in self.replaced:
            return _message(2, serial, *self.replaced[what])
        if member == "ListUnits":
            return _message(2, serial, "a(ssssssouso)", _units(self.units))
        kind, value = PROPERTIES.get((path, what), ("", None))
        if not kind:
            return _message(3, serial, "s", _text("no such property"))
        return _message(2, serial, "v", variant(kind, value))


def variant(kind: str, value: Any) -> bytes:
    """A variant with a text (`s`) or a number (`t`, `u`, `x`)."""
    body = bytes([len(kind)]) + kind.encode() + b"\0"
    if kind == "s":
        return _padded(body, 4) + _text(value)
    size = {"t": 8, "u": 4, "x": 8}[kind]
    return _padded(body, size) + int(value).to_bytes(size, "little", signed=kind == "x")


def _padded(data: bytes, size: int) -> bytes:
    return data + bytes(-len(data) % size)


def _text(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<I", len(data)) + data + b"\0"


def _units(units: list[tuple[str | bytes | int, ...]]) -> bytes:
    array = b""
    for unit in units:
        array = _padded(array, 8)
        for value in unit:
            array = _padded(array, 4) + (struct.pack("<I", value) if isinstance(value, int) else _text(value))
    return struct.pack("<I", len(array)) + bytes(4) + array


def _message(kind: int, serial: int, signature: str, body: bytes) -> bytes:
    fields = bytes([5, 1]) + b"u\0" + struct.pack("<I", serial)
    fields += bytes([8, 1]) + b"g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
    start = struct.pack("<cBBBIII", b"l", kind, 0, 1, len(body), 99, len(fields))
    return _padded(start + fields, 8) + body
