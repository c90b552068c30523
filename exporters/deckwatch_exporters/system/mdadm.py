"""Software RAID, from /proc/mdstat (md(4)) and the md devices in sysfs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

STATES = ("active", "inactive", "recovering", "resync", "check")

STATE = Gauge("node_md_state", "Whether the array is in this state (1).", ["device", "state"])
DISKS = Gauge("node_md_disks", "Number of active, failed and spare disks of the array.", ["device", "state"])
REQUIRED = Gauge("node_md_disks_required", "Number of disks that the array requires.", ["device"])
BLOCKS = Gauge("node_md_blocks", "Number of blocks of the array.", ["device"])
SYNCED = Gauge("node_md_blocks_synced", "Number of blocks of the array that are synchronized.", ["device"])
RAID_DISKS = Gauge("node_md_raid_disks", "Number of disks that the array is configured for.", ["device"])
DEGRADED = Gauge("node_md_degraded", "Number of disks that are missing from the array.", ["device"])

_ARRAY_STATES = ("active", "inactive", "broken")
_SYNC_ACTION = re.compile(r"\b(recovery|resync|check|reshape)\s*=")
_PROGRESS = re.compile(r"\b(recovery|resync|check|reshape)\s*=\s*[0-9.]+%\s*\(([0-9]{1,19})/([0-9]{1,19})\)")
_DELAYED = re.compile(r"\b(recovery|resync|check|reshape)\s*=\s*(DELAYED|PENDING|REMOTE)")
_BLOCKS = re.compile(r"(?<![\w-])([0-9]{1,19}) blocks")
_DISKS = re.compile(r"\[([0-9]{1,9})/([0-9]{1,9})\]")
_MEMBER = re.compile(r"\[\d+\](\([A-Z]\))*$")
_STATE_OF = {"recovery": "recovering", "resync": "resync", "check": "check", "reshape": "active"}


@dataclass(frozen=True)
class Array:
    """An array; `blocks` and `synced` are in KiB, the unit of the file, and None if it does not say them."""

    name: str
    state: str
    required: int
    active: int
    failed: int
    spare: int
    blocks: int | None
    synced: int | None


class Mdadm:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._mdstat = paths.in_proc("mdstat")
        self._block = paths.in_sys("block")

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._mdstat)
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        for array in parse_mdstat(text, malformed):
            device = array.name
            for state in STATES:
                yield STATE(int(state == array.state), device=device, state=state)
            yield DISKS(array.active, device=device, state="active")
            yield DISKS(array.failed, device=device, state="failed")
            yield DISKS(array.spare, device=device, state="spare")
            yield REQUIRED(array.required, device=device)
            if array.blocks is not None:
                yield BLOCKS(array.blocks, device=device)
            if array.synced is not None:
                yield SYNCED(array.synced, device=device)
            for file, metric in (("raid_disks", RAID_DISKS), ("degraded", DEGRADED)):
                path = f"{self._block}/{device}/md/{file}"
                # `raid_disks` is `4 (3)` while an array is being reshaped.
                word = (read_value(path) or "").partition(" ")[0]
                value = parse_unsigned(word, path, malformed) if word else None
                if value is not None:
                    yield metric(value, device=device)
        yield from malformed


def parse_mdstat(text: str, malformed: MalformedValues) -> list[Array]:
    """The arrays in the file."""
    arrays: dict[str, Array] = {}
    for block in re.split(r"\n(?=md\S* *:)|\n\n", text):
        if not re.match(r"md\S* *:", block):
            continue
        array = _array(block)
        if array is None or arrays.setdefault(array.name, array) is not array:
            malformed.add("/proc/mdstat", block)
    return list(arrays.values())


def _array(block: str) -> Array | None:
    """The array that a block of lines describes; None if the block is malformed."""
    heading, _, rest = block.partition("\n")
    name, _, description = heading.partition(":")
    words = description.split()
    if not words or words[0] not in _ARRAY_STATES:
        return None
    members = [word for word in words if _MEMBER.search(word)]
    failed = sum("(F)" in member for member in members)
    spare = sum("(S)" in member for member in members)
    size = _BLOCKS.search(rest)
    blocks = int(size[1]) if size else None
    state = "inactive" if words[0] == "inactive" else "active"
    disks = _DISKS.search(rest)
    if disks:
        required, active = int(disks[1]), int(disks[2])
    elif "[" in rest.partition("\n")[0]:
        return None  # the level has redundancy, but the numbers of disks cannot be parsed
    else:
        # Without redundancy (raid0, linear) the file has no such numbers: every member is required.
        required, active = len(members), len(members) - failed - spare
    if state == "inactive":
        # Containers of BIOS RAID (imsm, ddf) are always inactive and lack nothing; node_exporter reports 0 of 0.
        required, active = 0, 0
    synced = blocks
    progress, delayed = _PROGRESS.search(rest), _DELAYED.search(rest)
    if progress is not None:
        state, synced = _STATE_OF[progress[1]], int(progress[2])
    elif delayed is not None:
        state, synced = _STATE_OF[delayed[1]], 0
    elif _SYNC_ACTION.search(rest):
        return None  # an action is in progress, but how far it is cannot be parsed
    return Array(name.strip(), state, required, active, failed, spare, blocks, synced)
