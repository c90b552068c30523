"""NVMe controllers and their namespaces, from sysfs (/sys/class/nvme, drivers/nvme/host/sysfs.c)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .parse_numbers import MalformedValues
from .paths import Paths, list_dir, read_unsigned, read_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.exporter import Samples

INFO = Gauge(
    "node_nvme_info",
    "Identity and state of the NVMe controller; the value is always 1.",
    ["device", "firmware_revision", "model", "serial", "state", "cntlid"],
)
_NAMESPACE = ("device", "nsid")
NAMESPACE_INFO = Gauge(
    "node_nvme_namespace_info",
    "State of the path to the NVMe namespace; the value is always 1.",
    [*_NAMESPACE, "ana_state"],
)
CAPACITY = Gauge("node_nvme_namespace_capacity_bytes", "Capacity of the NVMe namespace, in bytes.", _NAMESPACE)
SIZE = Gauge("node_nvme_namespace_size_bytes", "Size of the NVMe namespace, in bytes.", _NAMESPACE)
USED = Gauge("node_nvme_namespace_used_bytes", "Used space of the NVMe namespace, in bytes.", _NAMESPACE)
BLOCK_SIZE = Gauge(
    "node_nvme_namespace_logical_block_size_bytes", "Logical block size of the NVMe namespace, in bytes.", _NAMESPACE
)

_NAME = re.compile(r"nvme\d+(?:c\d+)?n(\d+)")  # `c` with multipath: the path of a controller to the namespace
_SECTOR = 512  # bytes: the unit of `size`; that of `nuse` is the logical block


class Nvme:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "nvme")

    def collect(self) -> Samples:
        devices = list_dir(self._class)
        if not devices:
            raise NotAvailable
        malformed = MalformedValues()
        for device in devices:
            folder = f"{self._class}/{device}"
            yield INFO(
                1,
                device=device,
                firmware_revision=read_value(f"{folder}/firmware_rev") or "",
                model=read_value(f"{folder}/model") or "",
                serial=read_value(f"{folder}/serial") or "",
                state=read_value(f"{folder}/state") or "",
                cntlid=read_value(f"{folder}/cntlid") or "",
            )
            for name in list_dir(folder):
                if namespace := _NAME.fullmatch(name):
                    yield from _namespace(f"{folder}/{name}", {"device": device, "nsid": namespace[1]}, malformed)
        yield from malformed


def _namespace(folder: str, labels: Mapping[str, str], malformed: MalformedValues) -> Samples:
    yield NAMESPACE_INFO(1, **labels, ana_state=read_value(f"{folder}/ana_state") or "unknown")
    sectors = read_unsigned(f"{folder}/size", malformed)
    if sectors is not None:
        # node_exporter multiplies by the logical block size, which is wrong if that is not 512.
        yield CAPACITY(sectors * _SECTOR, **labels)
        yield SIZE(sectors * _SECTOR, **labels)
    block_size = read_unsigned(f"{folder}/queue/logical_block_size", malformed)
    if block_size is not None:
        yield BLOCK_SIZE(block_size, **labels)
        if (used := read_unsigned(f"{folder}/nuse", malformed)) is not None:
            yield USED(used * block_size, **labels)
