"""Software RAID, from /proc/mdstat (md(4)) and sysfs' md devices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, read_text, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

STATES = ("active", "inactive", "recovering", "resync", "check")

STATE = Gauge("node_md_state", "Whether the array is in this state.", ["device", "state"])
DISKS = Gauge("node_md_disks", "Disks of the array that are active, failed or spare.", ["device", "state"])
REQUIRED = Gauge("node_md_disks_required", "Disks that the array needs.", ["device"])
BLOCKS = Gauge("node_md_blocks", "Blocks of the array.", ["device"])
SYNCED = Gauge("node_md_blocks_synced", "Blocks that are in sync.", ["device"])
RAID_DISKS = Gauge("node_md_raid_disks", "Disks that the array is made for.", ["device"])
DEGRADED = Gauge("node_md_degraded", "Disks that the array lacks.", ["device"])

_PROGRESS = re.compile(r"(recovery|resync|check|reshape)\s*=\s*[\d.]+%\s*\((\d+)/(\d+)\)")
_DELAYED = re.compile(r"(recovery|resync|check|reshape)\s*=\s*(DELAYED|PENDING|REMOTE)")
_SIZES = re.compile(r"\[(\d+)/(\d+)\]")
_MEMBER = re.compile(r"\[\d+\](\([A-Z]\))*$")
_STATE_OF = {"recovery": "recovering", "resync": "resync", "check": "check", "reshape": "active"}


@dataclass(frozen=True)
class Array:
    """One array; `required` and `active` count disks, `blocks` and `synced` are in KiB as the file has them."""

    name: str
    state: str
    required: int
    active: int
    failed: int
    spare: int
    blocks: int
    synced: int


class Mdadm:
    def __init__(self, paths: Paths) -> None:
        self._mdstat = paths.in_proc("mdstat")
        self._block = paths.in_sys("block")

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._mdstat)
        except FileNotFoundError:
            raise NotAvailable from None
        for array in parse_mdstat(text):
            device = array.name
            for state in STATES:
                yield STATE(int(state == array.state), device=device, state=state)
            yield DISKS(array.active, device=device, state="active")
            yield DISKS(array.failed, device=device, state="failed")
            yield DISKS(array.spare, device=device, state="spare")
            yield REQUIRED(array.required, device=device)
            yield BLOCKS(array.blocks, device=device)
            yield SYNCED(array.synced, device=device)
            for file, metric in (("raid_disks", RAID_DISKS), ("degraded", DEGRADED)):
                value = _first_number(f"{self._block}/{device}/md/{file}")
                if value is not None:
                    yield metric(value, device=device)


def _first_number(path: str) -> int | None:
    """The number that the file begins with: `raid_disks` is `4 (3)` while an array is reshaped."""
    number = (read_value(path) or "").partition(" ")[0]
    return int(number) if number.isdecimal() else None


def parse_mdstat(text: str) -> list[Array]:
    """Every array of the file. Raises ValueError."""
    blocks = re.split(r"\n(?=md\S* *:)|\n\n", text)
    arrays = [_array(block) for block in blocks if re.match(r"md\S* *:", block)]
    return list({array.name: array for array in arrays}.values())


def _array(block: str) -> Array:
    heading, _, rest = block.partition("\n")
    name, _, description = heading.partition(":")
    words = description.split()
    members = [word for word in words if _MEMBER.search(word)]
    failed = sum("(F)" in member for member in members)
    spare = sum("(S)" in member for member in members)
    size = re.search(r"(\d+) blocks", rest)
    if not words or size is None:
        raise ValueError(f"/proc/mdstat: not an array: {heading[:80]!r}")
    blocks = int(size.group(1))
    state = "active" if words[0] == "active" else "inactive"
    sizes = _SIZES.search(rest)
    # Without redundancy (raid0, linear) the file names no numbers: every member is needed, and there.
    required, active = (int(sizes[1]), int(sizes[2])) if sizes else (len(members), len(members) - failed - spare)
    if state == "inactive":
        # A container of BIOS RAID (imsm, ddf) is always so, and lacks nothing: node_exporter says 0 of 0.
        required, active = 0, 0
    synced = blocks
    progress, delayed = _PROGRESS.search(rest), _DELAYED.search(rest)
    if progress is not None:
        state, synced = _STATE_OF[progress[1]], int(progress[2])
    elif delayed is not None:
        state, synced = _STATE_OF[delayed[1]], 0
    return Array(name.strip(), state, required, active, failed, spare, blocks, synced)
