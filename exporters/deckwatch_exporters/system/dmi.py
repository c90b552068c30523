"""Make and model of the machine, from DMI in sysfs (Documentation/ABI/testing/sysfs-class-dmi)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Metric, NotAvailable

from .paths import Paths, list_dir, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Sample, Samples

_FIELDS = (
    "bios_date", "bios_release", "bios_vendor", "bios_version", "board_asset_tag", "board_name", "board_serial",
    "board_vendor", "board_version", "chassis_asset_tag", "chassis_serial", "chassis_vendor", "chassis_version",
    "product_family", "product_name", "product_serial", "product_sku", "product_uuid", "product_version",
    "system_vendor",
)  # fmt: skip
INFO = Gauge(
    "node_dmi_info", "Make and model of the machine, as reported by its firmware; the value is always 1.", _FIELDS
)


class Dmi:
    def __init__(self, paths: Paths) -> None:
        self._folder = paths.in_sys("class", "dmi", "id")
        self._info: Sample | None = None

    def collect(self) -> Samples:
        if self._info is None:
            self._info = self._read()
        yield self._info

    def _read(self) -> Sample:
        """Read what does not change until the next boot. Fields that are absent or may not be read have no label."""
        files = set(list_dir(self._folder))
        known = {}
        for field in _FIELDS:
            file = "sys_vendor" if field == "system_vendor" else field
            # Only root can read serial numbers.
            text = read_value(f"{self._folder}/{file}") if file in files else None
            if text is not None:
                known[field] = text
        if not known:
            raise NotAvailable
        return Metric(INFO.name, INFO.type, INFO.help, tuple(known))(1, **known)
