"""Entries of systemd's journal, read by `journalctl --follow`.

Format: https://systemd.io/JOURNAL_EXPORT_FORMATS/, section "Journal JSON Format".
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.config.journal_settings import JournalSettings

_READ: Final = 64 * 1024
_MAX_READ: Final = 512 * 1024  # in one call
_MAX_ENTRY: Final = 16 * 1024 * 1024
_MAX_SAID: Final = 2000
_CHECK_TIMEOUT: Final = 20.0  # seconds

_GROUP: Final = "Add the user of the agent to the group systemd-journal."
#: What journalctl prints if there are journals that it cannot read.
_REFUSED: Final = ("insufficient permissions", "Permission denied", "not seeing messages from other users")


class JournalError(Exception):
    """The journal cannot be read. The message gives the reason and the fix."""


class Journalctl:
    """A running `journalctl`, from the entry `cursor` on or, without one, from entries of `max_age` on."""

    def __init__(self, settings: JournalSettings, cursor: str) -> None:
        # With --after-cursor, systemd 252 skips an entry if the cursor's own entry has been vacuumed.
        start = [f"--cursor={cursor}"] if cursor else [f"--since=-{settings.max_age:.0f}s"]
        self._settings = settings
        self._process = _started(settings, ["--follow", "--no-tail", *start])
        self._output, self._errors = _pipes(self._process)
        self._rest = bytearray()
        self._said = ""
        self._skipping = False
        self.too_long = 0  # entries above 16 MiB, which are left out

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the entries that have arrived. Does not wait. Raises JournalError if journalctl has ended."""
        size = 0
        while size < _MAX_READ:
            try:
                data = os.read(self._output, _READ)
            except BlockingIOError:
                break
            if not data:
                raise JournalError(self._reason())
            size += len(data)
            yield from self._entries(data)
        self._listen()

    def _entries(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._rest += line
            whole, self._rest = bytes(self._rest), bytearray()
            if self._skipping:
                self._skipping = False
                continue
            try:
                fields = orjson.loads(whole)
            except ValueError:
                continue  # journalctl was killed while it wrote
            if isinstance(fields, dict):
                yield fields
        if not self._skipping:
            self._rest += rest
        if len(self._rest) > _MAX_ENTRY:
            self._skipping = True
            self._rest.clear()
            self.too_long += 1

    def _listen(self) -> None:
        try:
            self._said = (self._said + os.read(self._errors, _READ).decode(errors="replace"))[-_MAX_SAID:]
        except BlockingIOError:
            return

    def refused(self) -> str:
        """Why some journals cannot be read; empty if all can."""
        return _refusal(self._said)

    def _reason(self) -> str:
        try:
            status = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "journalctl closed its output"
        self._listen()
        return _failure(status, self._said)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._output)
        os.close(self._errors)


def check_journal(settings: JournalSettings) -> bool:
    """Return whether there is an entry that matches. Raises JournalError if the journal cannot be read."""
    process = _started(settings, ["--lines=1"])
    try:
        output, errors = process.communicate(timeout=_CHECK_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise JournalError(f"journalctl did not end within {_CHECK_TIMEOUT:.0f} s.") from None
    said = errors.decode(errors="replace")
    if process.returncode:
        raise JournalError(_failure(process.returncode, said))
    if refusal := _refusal(said):
        raise JournalError(refusal)
    if "No journal files were found" in said:
        raise JournalError("there is no journal. Check that systemd-journald runs, or set directory.")
    return output.startswith(b"{")


def _started(settings: JournalSettings, more: Sequence[str]) -> subprocess.Popen[bytes]:
    program = shutil.which("journalctl")
    if program is None:
        raise JournalError("journalctl is not installed. Install systemd, or remove logs.journal.")
    command = [
        program,
        "--output=json",
        "--all",
        "--no-pager",
        f"--output-fields={','.join(sorted(settings.needed_fields))}",
    ]
    if settings.directory is not None:
        command.append(f"--directory={settings.directory}")
    command += [f"--unit={unit}" for unit in settings.units]
    command += more
    for field, texts in settings.match.items():
        command += [f"{field}={text}" for text in ([texts] if isinstance(texts, str) else texts)]
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
        )
    except OSError as error:
        raise JournalError(f"journalctl cannot be started: {error.strerror}.") from None


def _pipes(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Take the pipes over, without blocking reads."""
    assert process.stdout is not None
    assert process.stderr is not None
    pipes = os.dup(process.stdout.fileno()), os.dup(process.stderr.fileno())
    process.stdout.close()
    process.stderr.close()
    for pipe in pipes:
        os.set_blocking(pipe, False)
    return pipes


def _refusal(said: str) -> str:
    refused = any(text in said for text in _REFUSED)
    return f"there are journals that the agent is not permitted to read. {_GROUP}" if refused else ""


def _failure(status: int, said: str) -> str:
    if refusal := _refusal(said):
        return refusal
    last = said.strip().splitlines()[-1:] or ["no message"]
    return f"journalctl ended with status {status}: {last[0]}"
