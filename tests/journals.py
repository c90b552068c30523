"""Real journals that tests write with `systemd-journal-remote`."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WRITERS = ("/usr/lib/systemd/systemd-journal-remote", "/lib/systemd/systemd-journal-remote")
_BOOT = "0123456789abcdef0123456789abcdef"


def writer() -> str:
    """Return the program that writes journals. Skips the test where there is none, or no journalctl."""
    found = next((path for path in _WRITERS if Path(path).exists()), None)
    if found is None or shutil.which("journalctl") is None:
        pytest.skip("needs journalctl and systemd-journal-remote")
    return found


class Journal:
    """A folder with journals. Each `write` makes a new file there, as after a rotation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._writer = writer()
        self._begin = int(time.time() * 1e6) - 60_000_000
        self._written = 0
        self._files = 0

    def write(self, messages: Sequence[str | bytes], unit: str = "app.service", **fields: str) -> Path:
        """Write one entry for each message, a microsecond apart, and return the file."""
        data = b"".join(self._entry(message, {"_SYSTEMD_UNIT": unit, **fields}) for message in messages)
        self._files += 1
        path = self.folder / f"part-{self._files}.journal"
        subprocess.run([self._writer, "-o", path, "-"], input=data, check=True, capture_output=True, timeout=60)
        return path

    def _entry(self, message: str | bytes, fields: Mapping[str, str]) -> bytes:
        self._written += 1
        moment = self._begin + self._written
        head = {
            "__REALTIME_TIMESTAMP": moment,
            "__MONOTONIC_TIMESTAMP": self._written,
            "_BOOT_ID": _BOOT,
            "PRIORITY": 6,
            **fields,
        }
        text = message if isinstance(message, bytes) else message.encode()
        # The binary form of the export format: the length in 8 bytes, then any bytes.
        body = b"MESSAGE\n" + len(text).to_bytes(8, "little") + text + b"\n\n"
        return "".join(f"{name}={value}\n" for name, value in head.items()).encode() + body
