"""Block devices, from /proc/diskstats (Documentation/admin-guide/iostats.rst), udev and sysfs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, Gauge, Metric, Pattern, Settings

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned, parse_unsigned_numbers
from .paths import Paths, read_text, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Malformed, Sample, Samples

_DEVICE = ("device",)
_SECTOR = 512  # bytes: the unit of the file, whatever the sector size of the device
_MILLISECOND = 0.001

#: In the order of the file's columns.
COLUMNS: tuple[Metric, ...] = (
    Counter("node_disk_reads_completed_total", "Number of reads completed.", _DEVICE),
    Counter("node_disk_reads_merged_total", "Number of reads merged.", _DEVICE),
    Counter("node_disk_read_bytes_total", "Number of bytes read.", _DEVICE),
    Counter("node_disk_read_time_seconds_total", "Time spent by all reads, in seconds.", _DEVICE),
    Counter("node_disk_writes_completed_total", "Number of writes completed.", _DEVICE),
    Counter("node_disk_writes_merged_total", "Number of writes merged.", _DEVICE),
    Counter("node_disk_written_bytes_total", "Number of bytes written.", _DEVICE),
    Counter("node_disk_write_time_seconds_total", "Time spent by all writes, in seconds.", _DEVICE),
    Gauge("node_disk_io_now", "Number of I/Os in progress.", _DEVICE),
    Counter("node_disk_io_time_seconds_total", "Time spent doing I/Os, in seconds.", _DEVICE),
    Counter(
        "node_disk_io_time_weighted_seconds_total",
        "Time spent doing I/Os, weighted by the number of I/Os in progress, in seconds.",
        _DEVICE,
    ),
    Counter("node_disk_discards_completed_total", "Number of discards completed.", _DEVICE),
    Counter("node_disk_discards_merged_total", "Number of discards merged.", _DEVICE),
    Counter("node_disk_discarded_sectors_total", "Number of sectors discarded.", _DEVICE),
    Counter("node_disk_discard_time_seconds_total", "Time spent by all discards, in seconds.", _DEVICE),
    Counter("node_disk_flush_requests_total", "Number of flush requests completed.", _DEVICE),
    Counter("node_disk_flush_requests_time_seconds_total", "Time spent by all flush requests, in seconds.", _DEVICE),
)
#: From the unit of each column to base units.
_FACTORS = (1, 1, _SECTOR, _MILLISECOND, 1, 1, _SECTOR, _MILLISECOND, 1, _MILLISECOND, _MILLISECOND,
            1, 1, 1, _MILLISECOND, 1, _MILLISECOND)  # fmt: skip
_WIDTHS = (14, 18, 20)  # fields of a line before Linux 4.18, before 5.5 and since

INFO = Gauge(
    "node_disk_info",
    "Identity of the block device; the value is always 1.",
    ["device", "major", "minor", "path", "wwn", "model", "serial", "revision", "rotational"],
)
FILESYSTEM_INFO = Gauge(
    "node_disk_filesystem_info",
    "File system on the block device; the value is always 1.",
    ["device", "type", "usage", "uuid", "version"],
)
MAPPER_INFO = Gauge(
    "node_disk_device_mapper_info",
    "Identity of the device-mapper device; the value is always 1.",
    ["device", "name", "uuid", "vg_name", "lv_name", "lv_layer"],
)
ATA_WRITE_CACHE = Gauge("node_disk_ata_write_cache", "Whether the ATA disk has a write cache (1) or not (0).", _DEVICE)
ATA_WRITE_CACHE_ENABLED = Gauge(
    "node_disk_ata_write_cache_enabled", "Whether the write cache of the ATA disk is enabled (1) or not (0).", _DEVICE
)
ATA_ROTATION_RATE = Gauge(
    "node_disk_ata_rotation_rate_rpm", "Rotation rate of the ATA disk, in revolutions per minute (0 for SSDs).", _DEVICE
)
_ATA = {
    "ID_ATA_WRITE_CACHE": ATA_WRITE_CACHE,
    "ID_ATA_WRITE_CACHE_ENABLED": ATA_WRITE_CACHE_ENABLED,
    "ID_ATA_ROTATION_RATE_RPM": ATA_ROTATION_RATE,
}


class DiskSettings(Settings):
    """`device_exclude`: devices to leave out; by default partitions, loop and RAM devices, as in node_exporter."""

    device_exclude: Pattern = Pattern(r"^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")


class _Source(NamedTuple):
    """Numbers of a device and contents of its files in udev and sysfs, which rarely change."""

    major: str
    minor: str
    udev: str
    rotational: str


class _Properties(NamedTuple):
    """The properties of a device, kept until their source changes."""

    source: _Source
    samples: tuple[Sample | Malformed, ...]


class Disk:
    def __init__(self, paths: Paths, settings: DiskSettings) -> None:
        self._files = KeptFiles()
        self._diskstats = paths.in_proc("diskstats")
        self._udev = paths.udev
        self._block = paths.in_sys("block")
        self._exclude = settings.device_exclude
        self._properties: dict[str, _Properties] = {}  # by device

    def collect(self) -> Samples:
        malformed = MalformedValues()
        before, self._properties = self._properties, {}
        for device in parse_diskstats(self._files.read(self._diskstats), self._exclude, malformed):
            for metric, factor, value in zip(COLUMNS, _FACTORS, device.values, strict=False):
                if value is not None:
                    yield metric(value * factor, device=device.name)
            source = self._read_properties(device)
            kept = before.get(device.name)
            if kept is None or kept.source != source:
                kept = _Properties(source, tuple(self._from_udev(device, source)))
            self._properties[device.name] = kept
            yield from kept.samples
        yield from malformed

    def _read_properties(self, disk: BlockDevice) -> _Source:
        try:
            udev = read_text(f"{self._udev}/b{disk.major}:{disk.minor}")
        except OSError:
            udev = ""  # without udev, or for a device that udev does not know, the numbers are still exported
        rotational = read_value(f"{self._block}/{disk.name.replace('/', '!')}/queue/rotational") or ""
        return _Source(disk.major, disk.minor, udev, rotational)

    def _from_udev(self, disk: BlockDevice, source: _Source) -> Samples:
        malformed = MalformedValues()
        device = disk.name
        known = parse_udev(source.udev)
        yield INFO(
            1,
            device=device,
            major=disk.major,
            minor=disk.minor,
            path=known.get("ID_PATH", ""),
            wwn=known.get("ID_WWN", ""),
            model=known.get("ID_MODEL", ""),
            serial=known.get("SCSI_IDENT_SERIAL") or known.get("ID_SERIAL_SHORT") or known.get("ID_SERIAL", ""),
            revision=known.get("ID_REVISION", ""),
            rotational=source.rotational,
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
                if key in known:
                    value = parse_unsigned(known[key], f"{self._udev}: {key} of {device}", malformed)
                    if value is not None:
                        yield metric(value, device=device)
        yield from malformed


class BlockDevice(NamedTuple):
    """A line of /proc/diskstats; `values` has 11 columns, 15 since Linux 4.18 and 17 since 5.5."""

    major: str
    minor: str
    name: str
    values: list[int | None]


def parse_diskstats(text: str, exclude: Pattern, malformed: MalformedValues) -> list[BlockDevice]:
    """The devices with names that `exclude` does not match.

    A line with an unknown number of fields is malformed: with a field missing, those after it are shifted.
    """
    devices: dict[str, BlockDevice] = {}
    lines = [(line, line.split()) for line in text.split("\n") if line]
    widths = [len(fields) for _, fields in lines]
    width = max(widths, key=widths.count, default=0)  # a later kernel may add columns
    for line, fields in lines:
        if len(fields) not in _WIDTHS and not _WIDTHS[-1] < len(fields) == width:
            malformed.add("/proc/diskstats", line)
            continue
        major, minor, name = fields[:3]
        if exclude.search(name):
            continue
        if name in devices:
            malformed.add(f"/proc/diskstats: {name}", line)
            continue
        values = parse_unsigned_numbers(fields[3 : _WIDTHS[-1]], f"/proc/diskstats: {name}", malformed)
        devices[name] = BlockDevice(major, minor, name, values)
    return list(devices.values())


def parse_udev(text: str) -> dict[str, str]:
    """The properties (`E:KEY=value`) in a file of udev's database."""
    lines = (line[2:] for line in text.split("\n") if line.startswith("E:"))
    return dict(line.partition("=")[::2] for line in lines)
