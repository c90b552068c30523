"""Metrics of the host under node_exporter's names. Each subsystem has a module; `SUBSYSTEMS` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import field_validator

from deckwatch.exporter import Collector, Context, Exporter, Scheduled, Settings, Target

from .arp import Arp
from .bonding import Bonding
from .cgroup import ContainerCgroup
from .conntrack import Conntrack
from .cpu import Cpu, CpuSettings
from .cpufreq import CpuFrequency
from .disk import Disk, DiskSettings
from .dmi import Dmi
from .edac import Edac
from .entropy import Entropy
from .filefd import FileDescriptors
from .filesystem import Filesystem, FilesystemSettings
from .hwmon import Hwmon
from .interrupts import Interrupts, InterruptsSettings
from .kernel_hung import KernelHung
from .load import Load
from .mdadm import Mdadm
from .memory import Memory
from .memory_numa import MemoryNuma
from .netclass import NetworkInterfaces
from .netstat import Netstat, NetstatSettings
from .network import NetworkDevices, NetworkSettings
from .nvme import Nvme
from .os_release import OsRelease
from .paths import Paths
from .power_supply import PowerSupply
from .pressure import Pressure
from .processes import Processes
from .rapl import Rapl
from .schedstat import Schedstat
from .selinux import Selinux
from .sockstat import Sockstat
from .softirqs import Softirqs
from .softnet import Softnet
from .stat import Stat, StatSettings
from .systemd import Systemd, SystemdSettings
from .tcpstat import SocketStates
from .textfile import Textfile, TextfileSettings
from .thermal import Thermal
from .time_of_day import TimeOfDay
from .timex import Timex
from .udp_queues import UdpQueues
from .uname import Uname
from .vmstat import Vmstat, VmstatSettings
from .watched import ProcessGroup, WatchedProcesses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class SystemSettings(Settings):
    """Settings of the host's collectors.

    `procfs`, `sysfs`, `rootfs` and `udev` are the paths of the host's files; they differ in a container.
    """

    procfs: str = "/proc"
    sysfs: str = "/sys"
    rootfs: str = "/"
    udev: str = "/run/udev/data"
    cpu: CpuSettings = CpuSettings()
    interrupts: InterruptsSettings = InterruptsSettings()
    stat: StatSettings = StatSettings()
    vmstat: VmstatSettings = VmstatSettings()
    filesystem: FilesystemSettings = FilesystemSettings()
    disk: DiskSettings = DiskSettings()
    network: NetworkSettings = NetworkSettings()
    netstat: NetstatSettings = NetstatSettings()
    systemd: SystemdSettings = SystemdSettings()
    textfile: TextfileSettings = TextfileSettings()
    processes: tuple[ProcessGroup, ...] = ()

    @field_validator("processes")
    @classmethod
    def _distinct(cls, groups: tuple[ProcessGroup, ...]) -> tuple[ProcessGroup, ...]:
        names = [group.name for group in groups]
        if len(set(names)) != len(names):
            raise ValueError("groups with different names")
        return groups

    @property
    def paths(self) -> Paths:
        return Paths(self.procfs, self.sysfs, self.rootfs, self.udev)


class Subsystem(NamedTuple):
    """How the collector of a subsystem is created and scheduled.

    Collectors that may block have a `group`, so that they run in another thread than those that only read kernel files.
    `max_series` limits a subsystem that grows with the machine, such as interrupts by CPU.
    """

    make: Callable[[Paths, SystemSettings, Context], Collector]
    group: str = ""
    max_series: int | None = None


#: By name: that of node_exporter's collector if there is one.
SUBSYSTEMS: Mapping[str, Subsystem] = {
    "arp": Subsystem(lambda paths, _s, _c: Arp(paths)),
    "bonding": Subsystem(lambda paths, _s, _c: Bonding(paths)),
    "cgroup": Subsystem(lambda paths, _s, _c: ContainerCgroup(paths)),
    "conntrack": Subsystem(lambda paths, _s, _c: Conntrack(paths)),
    "cpu": Subsystem(lambda paths, settings, _c: Cpu(paths, settings.cpu)),
    # Before Linux 5.18, reading the current frequency can sleep.
    "cpufreq": Subsystem(lambda paths, _s, _c: CpuFrequency(paths), group="sensors"),
    "diskstats": Subsystem(lambda paths, settings, _c: Disk(paths, settings.disk)),
    "dmi": Subsystem(lambda paths, _s, _c: Dmi(paths)),
    "edac": Subsystem(lambda paths, _s, _c: Edac(paths)),
    "entropy": Subsystem(lambda paths, _s, _c: Entropy(paths)),
    "filefd": Subsystem(lambda paths, _s, _c: FileDescriptors(paths)),
    "filesystem": Subsystem(lambda paths, settings, _c: Filesystem(paths, settings.filesystem), group="filesystem"),
    # Some drivers take a second or more to read a sensor.
    "hwmon": Subsystem(lambda paths, _s, _c: Hwmon(paths), group="sensors"),
    "interrupts": Subsystem(lambda paths, settings, _c: Interrupts(paths, settings.interrupts), max_series=10_000),
    "kernel_hung": Subsystem(lambda paths, _s, _c: KernelHung(paths)),
    "loadavg": Subsystem(lambda paths, _s, _c: Load(paths)),
    "mdadm": Subsystem(lambda paths, _s, _c: Mdadm(paths)),
    "meminfo": Subsystem(lambda paths, _s, _c: Memory(paths)),
    "meminfo_numa": Subsystem(lambda paths, _s, _c: MemoryNuma(paths)),
    "netclass": Subsystem(lambda paths, settings, _c: NetworkInterfaces(paths, settings.network)),
    "netdev": Subsystem(lambda paths, settings, _c: NetworkDevices(paths, settings.network)),
    "netstat": Subsystem(lambda paths, settings, _c: Netstat(paths, settings.netstat)),
    "nvme": Subsystem(lambda paths, _s, _c: Nvme(paths)),
    "os": Subsystem(lambda paths, _s, _c: OsRelease(paths), group="files"),
    "powersupplyclass": Subsystem(lambda paths, _s, _c: PowerSupply(paths), group="sensors"),
    "pressure": Subsystem(lambda paths, _s, _c: Pressure(paths)),
    "processes": Subsystem(lambda paths, _s, _c: Processes(paths)),
    "rapl": Subsystem(lambda paths, _s, _c: Rapl(paths)),
    "schedstat": Subsystem(lambda paths, _s, _c: Schedstat(paths)),
    "selinux": Subsystem(lambda paths, _s, _c: Selinux(paths)),
    "sockstat": Subsystem(lambda paths, _s, _c: Sockstat(paths)),
    "softirqs": Subsystem(lambda paths, _s, _c: Softirqs(paths)),
    "softnet": Subsystem(lambda paths, _s, _c: Softnet(paths)),
    "stat": Subsystem(lambda paths, settings, _c: Stat(paths, settings.stat)),
    "systemd": Subsystem(lambda paths, settings, _c: Systemd(paths, settings.systemd), group="systemd"),
    "tcpstat": Subsystem(lambda paths, _s, _c: SocketStates(paths)),
    "textfile": Subsystem(
        lambda paths, settings, context: Textfile(paths, settings.textfile, context.logger),
        group="files",
    ),
    "thermal_zone": Subsystem(lambda paths, _s, _c: Thermal(paths), group="sensors"),
    "time": Subsystem(lambda paths, _s, _c: TimeOfDay(paths)),
    "timex": Subsystem(lambda _paths, _s, _c: Timex()),
    "udp_queues": Subsystem(lambda paths, _s, _c: UdpQueues(paths)),
    "uname": Subsystem(lambda paths, _s, _c: Uname(paths)),
    "vmstat": Subsystem(lambda paths, settings, _c: Vmstat(paths, settings.vmstat)),
    # Reading the memory map of a process waits for the lock on it.
    "watched": Subsystem(lambda paths, settings, _c: WatchedProcesses(paths, settings.processes), group="watched"),
}


def open_host(settings: SystemSettings, context: Context) -> Target:
    """Open a collector for each subsystem; that of watched processes only if any are configured."""
    paths = settings.paths
    return Target(
        {
            name: Scheduled(
                subsystem.make(paths, settings, context), group=subsystem.group, max_series=subsystem.max_series
            )
            for name, subsystem in SUBSYSTEMS.items()
            if name != "watched" or settings.processes
        }
    )


EXPORTER = Exporter(
    name="system", settings=SystemSettings, open=open_host, collectors=tuple(SUBSYSTEMS), scrape_prefix="node"
)
