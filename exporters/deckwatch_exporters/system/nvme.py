"""Make, firmware and state of NVMe controllers, from sysfs (/sys/class/nvme, drivers/nvme/host/sysfs.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, list_dir, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

INFO = Gauge(
    "node_nvme_info",
    "What the NVMe controller says of itself.",
    ["device", "firmware_revision", "model", "serial", "state"],
)


class Nvme:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "nvme")

    def collect(self) -> Iterator[Sample]:
        devices = list_dir(self._class)
        if not devices:
            raise NotAvailable
        for device in devices:
            folder = f"{self._class}/{device}"
            yield INFO(
                1,
                device=device,
                firmware_revision=read_value(f"{folder}/firmware_rev") or "",
                model=read_value(f"{folder}/model") or "",
                serial=read_value(f"{folder}/serial") or "",
                state=read_value(f"{folder}/state") or "",
            )
