"""Where the agent keeps what it has to know after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def state_folder(explicit: str | None, environ: Mapping[str, str]) -> Path:
    """`--state-dir`, `$STATE_DIRECTORY` (systemd's; the first where it names several), `~/.local/state/deckwatch`."""
    if explicit:
        return Path(explicit)
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local/state"
    return Path(home) / "deckwatch"
