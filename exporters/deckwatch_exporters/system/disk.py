"""Block devices, from /proc/diskstats (Documentation/admin-guide/iostats.rst), udev and sysfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Metric, Pattern, Settings

from .paths import Paths, read_text, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

_DEVICE = ("device",)
_SECTOR = 512  # bytes; the file counts in these, whatever the device's own sectors are
_MILLISECOND = 0.001

#: In the order of the file's columns, with the factor that makes base units of them.
COLUMNS: tuple[Metric, ...] = (
    Counter("node_disk_reads_completed_total", "Reads completed.", _DEVICE),
    Counter("node_disk_reads_merged_total", "Reads merged.", _DEVICE),
    Counter("node_disk_read_bytes_total", "Bytes read.", _DEVICE),
    Counter("node_disk_read_time_seconds_total", "Seconds spent by all reads.", _DEVICE),
    Counter("node_disk_writes_completed_total", "Writes completed.", _DEVICE),
    Counter("node_disk_writes_merged_total", "Writes merged.", _DEVICE),
    Counter("node_disk_written_bytes_total", "Bytes written.", _DEVICE),
    Counter("node_disk_write_time_seconds_total", "Seconds spent by all writes.", _DEVICE),
    Gauge("node_disk_io_now", "I/Os in progress.", _DEVICE),
    Counter("node_disk_io_time_seconds_total", "Seconds spent doing I/Os.", _DEVICE),
    Counter("node_disk_io_time_weighted_seconds_total", "Seconds spent doing I/Os, weighted by their number.", _DEVICE),
    Counter("node_disk_discards_completed_total", "Discards completed.", _DEVICE),
    Counter("node_disk_discards_merged_total", "Discards merged.", _DEVICE),
    Counter("node_disk_discarded_sectors_total", "Sectors discarded.", _DEVICE),
    Counter("node_disk_discard_time_seconds_total", "Seconds spent by all discards.", _DEVICE),
    Counter("node_disk_flush_requests_total", "Flush requests completed.", _DEVICE),
    Counter("node_disk_flush_requests_time_seconds_total", "Seconds spent by all flush requests.", _DEVICE),
)
_FACTORS = (1, 1, _SECTOR, _MILLISECOND, 1, 1, _SECTOR, _MILLISECOND, 1, _MILLISECOND, _MILLISECOND,
            1, 1, 1, _MILLISECOND, 1, _MILLISECOND)  # fmt: skip

INFO = Gauge(
    "node_disk_info",
    "Identity of the device; rotational is 1 for disks that spin and 0 for others.",
    ["device", "major", "minor", "path", "wwn", "model", "serial", "revision", "rotational"],
)
FILESYSTEM_INFO = Gauge(
    "node_disk_filesystem_info", "The file system on the device.", ["device", "type", "usage", "uuid", "version"]
)
MAPPER_INFO = Gauge(
    "node_disk_device_mapper_info",
    "The device-mapper device.",
    ["device", "name", "uuid", "vg_name", "lv_name", "lv_layer"],
)
ATA_WRITE_CACHE = Gauge("node_disk_ata_write_cache", "Whether the ATA disk has a write cache.", _DEVICE)
ATA_WRITE_CACHE_ENABLED = Gauge(
    "node_disk_ata_write_cache_enabled", "Whether the ATA disk's write cache is enabled.", _DEVICE
)
ATA_ROTATION_RATE = Gauge(
    "node_disk_ata_rotation_rate_rpm", "Rotation rate of the ATA disk, in revolutions per minute; 0 for SSDs.", _DEVICE
)
_ATA = {
    "ID_ATA_WRITE_CACHE": ATA_WRITE_CACHE,
    "ID_ATA_WRITE_CACHE_ENABLED": ATA_WRITE_CACHE_ENABLED,
    "ID_ATA_ROTATION_RATE_RPM": ATA_ROTATION_RATE,
}


class DiskSettings(Settings):
    """Which devices are left out; by default partitions, loop and RAM devices, as node_exporter 1.5 does."""

    device_exclude: Pattern = Pattern(r"^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")


class Disk:
    def __init__(self, paths: Paths, settings: DiskSettings) -> None:
        self._diskstats = paths.in_proc("diskstats")
        self._udev = paths.udev
        self._block = paths.in_sys("block")
        self._exclude = settings.device_exclude

    def collect(self) -> Iterator[Sample]:
        text = read_text(self._diskstats)
        for major, minor, device, figures in parse_diskstats(text, self._exclude):
            for metric, factor, figure in zip(COLUMNS, _FACTORS, figures, strict=False):
                yield metric(figure * factor, device=device)
            yield from self._from_udev(device, major, minor)

    def _from_udev(self, device: str, major: str, minor: str) -> Iterator[Sample]:
        try:
            known = parse_udev(read_text(f"{self._udev}/b{major}:{minor}"))
        except OSError:
            known = {}  # no udev here, or none for this device: its numbers are still worth telling
        yield INFO(
            1,
            device=device,
            major=major,
            minor=minor,
            path=known.get("ID_PATH", ""),
            wwn=known.get("ID_WWN", ""),
            model=known.get("ID_MODEL", ""),
            serial=known.get("SCSI_IDENT_SERIAL") or known.get("ID_SERIAL_SHORT") or known.get("ID_SERIAL", ""),
            revision=known.get("ID_REVISION", ""),
            rotational=read_value(f"{self._block}/{device.replace('/', '!')}/queue/rotational") or "",
        )
        if known.get("ID_FS_TYPE"):
            yield FILESYSTEM_INFO(
                1,
                device=device,
                type=known["ID_FS_TYPE"],
                usage=known.get("ID_FS_USAGE", ""),
                uuid=known.get("ID_FS_UUID", ""),
                version=known.get("ID_FS_VERSION", ""),
            )
        if known.get("DM_NAME"):
            yield MAPPER_INFO(
                1,
                device=device,
                name=known["DM_NAME"],
                uuid=known.get("DM_UUID", ""),
                vg_name=known.get("DM_VG_NAME", ""),
                lv_name=known.get("DM_LV_NAME", ""),
                lv_layer=known.get("DM_LV_LAYER", ""),
            )
        if known.get("ID_ATA"):
            for key, metric in _ATA.items():
                if known.get(key, "").isdigit():
                    yield metric(int(known[key]), device=device)


def parse_diskstats(text: str, exclude: Pattern) -> list[tuple[str, str, str, list[int]]]:
    """Major, minor, name, and the figures of each device: 11 of them, 15 since Linux 4.18, 17 since 5.5.

    Devices whose names `exclude` finds are left out. Raises ValueError.
    """
    devices: dict[str, tuple[str, str, str, list[int]]] = {}
    for line in filter(None, text.split("\n")):
        fields = line.split()
        if len(fields) < 14:
            raise ValueError(f"/proc/diskstats: {len(fields)} fields, not 14 or more, in {line[:80]!r}")
        if exclude.search(fields[2]):
            continue
        try:
            figures = [int(field) for field in fields[3:]]
        except ValueError:
            raise ValueError(f"/proc/diskstats: not numbers in {line[:80]!r}") from None
        devices[fields[2]] = (fields[0], fields[1], fields[2], figures)
    return list(devices.values())


def parse_udev(text: str) -> dict[str, str]:
    """The properties (`E:KEY=value`) of a file in udev's database; other lines are of no interest."""
    lines = (line[2:] for line in text.split("\n") if line.startswith("E:"))
    return dict(line.partition("=")[::2] for line in lines)
