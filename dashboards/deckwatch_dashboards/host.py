"""Host: CPU, memory, disks, network, hardware and services."""

from __future__ import annotations

from .dashboard import Dashboard
from .overview import AGENT_UP
from .panels import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    OPERATIONS,
    PER_SECOND,
    RATIO,
    SECONDS,
    TIME,
    graph,
    problem_stat,
    rate_graph,
    ratio_graph,
    row,
    top_list,
    value_table,
)
from .query import BY_HOST, HOST

_STORED = 'fstype!~"tmpfs|ramfs|squashfs|overlay"'
_AVAILABLE = f"node_filesystem_avail_bytes{{@host, {_STORED}}}"
_USED = f"1 - {_AVAILABLE} / (node_filesystem_size_bytes{{@host, {_STORED}}} > 0)"
_READ_ONLY = f"node_filesystem_readonly{{@host, {_STORED}}} == 1 unless node_filesystem_device_error{{@host}} == 1"
_NO_ANSWER = f"node_filesystem_device_error{{@host, {_STORED}}} == 1"
_IDLE = 'rate(node_cpu_seconds_total{@host, mode="idle"}[@rate])'
_CORES = f"count by ({BY_HOST}) ({_IDLE})"
_BY_DEVICE = f"{BY_HOST}, device"
_NIC = 'device!~"lo|veth.*|docker.*|br-.*"'

DASHBOARD = Dashboard(
    name="host",
    title="Host",
    question="What is short on this host: CPU, memory, disk or network?",
    instances="node_uname_info",
    tags=["host"],
    panels=[
        problem_stat(
            "Hosts down",
            "Agents that Prometheus cannot scrape. Run `systemctl status deckwatch` on the host, then check the "
            "network between.",
            f"sum({AGENT_UP} == bool 0)",
            link_to="deckwatch",
        ),
        problem_stat(
            "OOM kills",
            "Processes that the kernel killed in the last hour because memory was exhausted. `dmesg -T | grep -i oom` "
            "names them.",
            "sum(increase(node_vmstat_oom_kill{@host}[1h]))",
        ),
        problem_stat(
            "Full file systems",
            "File systems that are more than 90 % full. Run `du -xh --max-depth=2 MOUNT | sort -h | tail` to find the "
            "largest directories.",
            f"sum({_USED} > bool 0.9)",
        ),
        problem_stat(
            "Failed units",
            "Units of systemd that failed. Run `systemctl --failed`, then `journalctl -u UNIT`.",
            'sum(node_systemd_unit_state{@host, state="failed"})',
            no_data="No data. systemd does not run on these hosts.",
        ),
        problem_stat(
            "Degraded RAID arrays",
            "Software RAID arrays with failed or missing disks. Run `mdadm --detail /dev/mdX` and replace the disk.",
            'sum(max by (job, agent, instance, device) (node_md_disks{@host, state="failed"} > bool 0'
            " or node_md_degraded{@host} > bool 0))",
            no_data="No software RAID.",
        ),
        problem_stat(
            "Clocks not synchronized",
            "Hosts without time synchronization. Run `systemctl status chrony systemd-timesyncd`. Containers use the "
            "clock of their host.",
            "sum(node_timex_sync_status{@host} == bool 0)",
        ),
        value_table(
            "Hosts",
            "One row per host, hosts that are down first. If a host was started recently and nobody restarted it, look "
            "for a kernel panic or a power failure.",
            BY_HOST,
            {
                "up": (COUNT, AGENT_UP),
                "+pretty_name": ("", "node_os_info{@host}"),
                "started": (TIME, "node_boot_time_seconds{@host} * 1000"),
                "cores": (COUNT, _CORES),
                "memory": (BYTES, "node_memory_MemTotal_bytes{@host}"),
                "memory used": (RATIO, "1 - node_memory_MemAvailable_bytes{@host} / node_memory_MemTotal_bytes{@host}"),
                "CPU": (RATIO, f"1 - avg by ({BY_HOST}) ({_IDLE})"),
            },
            sort="up",
            descending=False,
            width=24,
            height=6,
        ),
        row("CPU"),
        ratio_graph(
            "CPU",
            "Share of all cores that is busy, on the busiest hosts. If it stays above the threshold, the Processes "
            "dashboard shows which processes use it.",
            {HOST: f"1 - avg by ({BY_HOST}) ({_IDLE})"},
            threshold_name="cpu_ratio",
        ),
        graph(
            "CPU by mode",
            "What the cores of the chosen hosts do, on average. High iowait points to the disks, high steal to other "
            "virtual machines on the same hardware, high system to the kernel.",
            RATIO,
            {
                "{{mode}}": "sum by (mode) (rate(node_cpu_seconds_total{@host, mode!='idle'}[@rate]))"
                f" / scalar(count({_IDLE}))"
            },
            all_series=True,
            stacked=True,
        ),
        ratio_graph(
            "Busiest cores",
            "Use of single cores. If one core is at 100 % and others are idle, one thread limits a program, or one "
            "core handles all interrupts of a device.",
            {f"{HOST} cpu{{{{cpu}}}}": f"1 - {_IDLE}"},
        ),
        graph(
            "Load per core",
            "Processes that run or wait, divided by the number of cores. If it stays above 1, processes wait for a CPU "
            "or a disk.",
            COUNT,
            {
                f"{HOST} 1 min": f"node_load1{{@host}} / on ({BY_HOST}) {_CORES}",
                f"{HOST} 15 min": f"node_load15{{@host}} / on ({BY_HOST}) {_CORES}",
            },
            width=6,
        ),
        rate_graph(
            "Pressure",
            "Share of time in which at least one process waited for CPU, memory or disk. Above 10 %, users notice.",
            RATIO,
            {
                "CPU": "node_pressure_cpu_waiting_seconds_total{@host}",
                "memory": "node_pressure_memory_waiting_seconds_total{@host}",
                "disk": "node_pressure_io_waiting_seconds_total{@host}",
            },
            by=BY_HOST,
            width=6,
        ),
        graph(
            "Processes",
            "Running and blocked processes. Blocked processes wait for a disk: if their number stays high, a disk or a "
            "network mount hangs.",
            COUNT,
            {
                f"{HOST} running": "node_procs_running{@host}",
                f"{HOST} blocked": "node_procs_blocked{@host}",
            },
            width=6,
        ),
        rate_graph(
            "Context switches and interrupts",
            "Work of the scheduler and of devices. A rise without more load points to too many threads or a faulty "
            "device.",
            OPERATIONS,
            {"switches": "node_context_switches_total{@host}", "interrupts": "node_intr_total{@host}"},
            by=BY_HOST,
            width=6,
        ),
        row("Memory"),
        graph(
            "Memory by use",
            "Memory of the chosen hosts together. Little free memory is normal: the kernel frees cached memory when "
            "programs need it.",
            BYTES,
            {
                "used": "sum(node_memory_MemTotal_bytes{@host} - node_memory_MemFree_bytes{@host}"
                " - node_memory_Buffers_bytes{@host} - node_memory_Cached_bytes{@host})",
                "cached": "sum(node_memory_Cached_bytes{@host})",
                "buffers": "sum(node_memory_Buffers_bytes{@host})",
                "free": "sum(node_memory_MemFree_bytes{@host})",
            },
            stacked=True,
        ),
        ratio_graph(
            "Memory in use",
            "Share of memory that is not available to programs, on the fullest hosts. Above 90 %, find the largest "
            "process before the kernel kills one.",
            {HOST: "1 - node_memory_MemAvailable_bytes{@host} / node_memory_MemTotal_bytes{@host}"},
        ),
        rate_graph(
            "Swapping and major page faults",
            "Pages read from and written to disk. If this lasts, memory is short and everything on the host slows "
            "down.",
            OPERATIONS,
            {
                "swapped in": "node_vmstat_pswpin{@host}",
                "swapped out": "node_vmstat_pswpout{@host}",
                "major faults": "node_vmstat_pgmajfault{@host}",
            },
            by=BY_HOST,
        ),
        row("Disks"),
        top_list(
            "Fullest file systems",
            "Share of each file system that is used. Above 90 %, run `du -xh --max-depth=2 MOUNT | sort -h | tail` and "
            "delete or move files.",
            RATIO,
            f"{HOST} {{{{mountpoint}}}}",
            _USED,
            maximum=1,
        ),
        graph(
            "Time until full",
            "Time until each file system is full if the trend of the last hour continues. Below 4 hours, free space "
            "now.",
            SECONDS,
            {f"{HOST} {{{{mountpoint}}}}": f"{_AVAILABLE} / -(deriv({_AVAILABLE}[1h]) < 0)"},
            show_lowest=True,
            no_data="No file system is filling up.",
        ),
        top_list(
            "Inodes in use",
            "Share of inodes that is used. Without free inodes, no file can be created even if there is space. Find "
            "directories with many small files.",
            RATIO,
            f"{HOST} {{{{mountpoint}}}}",
            f"1 - node_filesystem_files_free{{@host, {_STORED}}} / (node_filesystem_files{{@host, {_STORED}}} > 0)",
            maximum=1,
        ),
        rate_graph(
            "Disk throughput",
            "Bytes read and written. If it stays at the maximum of the device, the device is the bottleneck.",
            BYTES_PER_SECOND,
            {"read": "node_disk_read_bytes_total{@host}", "written": "node_disk_written_bytes_total{@host}"},
            by=_BY_DEVICE,
        ),
        ratio_graph(
            "Disk utilization",
            "Share of time with at least one request in progress. At 100 %, a spinning disk is saturated; for an SSD, "
            "look at the latency.",
            {f"{HOST} {{{{device}}}}": "rate(node_disk_io_time_seconds_total{@host}[@rate])"},
        ),
        graph(
            "Disk latency",
            "Mean time of a request, including its time in the queue. Tens of milliseconds on an SSD mean that it is "
            "overloaded or failing.",
            SECONDS,
            {
                f"{HOST} {{{{device}}}} read": "rate(node_disk_read_time_seconds_total{@host}[@rate])"
                " / (rate(node_disk_reads_completed_total{@host}[@rate]) > 0)",
                f"{HOST} {{{{device}}}} write": "rate(node_disk_write_time_seconds_total{@host}[@rate])"
                " / (rate(node_disk_writes_completed_total{@host}[@rate]) > 0)",
            },
        ),
        value_table(
            "File systems that are read-only or do not answer",
            "If a file system became read-only, the kernel found errors: run `dmesg -T`. If a network mount does not "
            "answer, check its server.",
            f"{BY_HOST}, mountpoint, device, fstype",
            {"read-only": (COUNT, _READ_ONLY), "no answer": (COUNT, _NO_ANSWER)},
            width=8,
            no_data="All file systems answer and can be written to.",
        ),
        value_table(
            "Software RAID",
            "Disks of each array, by state. If a disk failed, run `mdadm --detail /dev/mdX`, replace the disk and add "
            "it to the array.",
            _BY_DEVICE,
            {
                "required": (COUNT, "node_md_disks_required{@host}"),
                "active": (COUNT, 'node_md_disks{@host, state="active"}'),
                "failed": (COUNT, 'node_md_disks{@host, state="failed"}'),
                "spare": (COUNT, 'node_md_disks{@host, state="spare"}'),
                "synchronized": (RATIO, "node_md_blocks_synced{@host} / (node_md_blocks{@host} > 0)"),
            },
            sort="failed",
            width=8,
            no_data="These hosts have no software RAID.",
        ),
        ratio_graph(
            "Open files",
            "Open file descriptors of the host as a share of the kernel's limit. Above 80 %, find the process: `lsof | "
            "awk '{print $1}' | sort | uniq -c | sort -n`.",
            {HOST: "node_filefd_allocated{@host} / node_filefd_maximum{@host}"},
        ),
        row("Network"),
        rate_graph(
            "Network traffic",
            "Bytes received and sent by each interface. If it stays at the speed of the link, the link is saturated.",
            BYTES_PER_SECOND,
            {
                "in": f"node_network_receive_bytes_total{{@host, {_NIC}}}",
                "out": f"node_network_transmit_bytes_total{{@host, {_NIC}}}",
            },
            by=_BY_DEVICE,
        ),
        rate_graph(
            "Network errors and drops",
            "Should be 0. Errors point to the cable, the driver or the duplex setting; drops mean that the host is too "
            "slow.",
            PER_SECOND,
            {
                "in, errors": f"node_network_receive_errs_total{{@host, {_NIC}}}",
                "out, errors": f"node_network_transmit_errs_total{{@host, {_NIC}}}",
                "in, dropped": f"node_network_receive_drop_total{{@host, {_NIC}}}",
                "out, dropped": f"node_network_transmit_drop_total{{@host, {_NIC}}}",
            },
            by=_BY_DEVICE,
        ),
        graph(
            "TCP connections",
            "Connections of the chosen hosts together, by state. Many in close_wait mean that a local program does not "
            "close its connections.",
            COUNT,
            {"{{state}}": 'sum by (state) (node_tcp_connection_states{@host, state!~".*_bytes"}) > 0'},
            all_series=True,
        ),
        rate_graph(
            "TCP retransmissions",
            "Segments that were sent again. A rise without more traffic means that the network loses packets.",
            PER_SECOND,
            {"retransmitted": "node_netstat_Tcp_RetransSegs{@host}"},
            by=BY_HOST,
        ),
        ratio_graph(
            "Connection tracking",
            "Share of the firewall's connection table that is used. When it is full, new connections are dropped: "
            "raise nf_conntrack_max.",
            {HOST: "node_nf_conntrack_entries{@host} / node_nf_conntrack_entries_limit{@host}"},
        ),
        graph(
            "Clock offset",
            "Difference between the clock and its reference, as estimated by the kernel. Above 50 ms, run `chronyc "
            "tracking` or `timedatectl`.",
            SECONDS,
            {HOST: "abs(node_timex_offset_seconds{@host})"},
        ),
        row("Hardware and services"),
        top_list(
            "Failed systemd units",
            "Units in the state failed. Run `systemctl --failed`, then `journalctl -u UNIT`.",
            COUNT,
            f"{HOST} {{{{name}}}}",
            'node_systemd_unit_state{@host, state="failed"} == 1',
            height=6,
            no_data="No unit has failed, or systemd does not run on these hosts.",
        ),
        graph(
            "Temperatures",
            "Temperature of each sensor. If it rises without more load, check the fans and the air flow.",
            "celsius",
            {f"{HOST} {{{{chip}}}} {{{{sensor}}}}": "node_hwmon_temp_celsius{@host}"},
            height=6,
            no_data="These hosts have no temperature sensors. Virtual machines have none.",
        ),
        rate_graph(
            "Memory errors",
            "Errors that ECC memory found. If corrected errors repeat, replace the module soon; after an uncorrected "
            "error, replace it now.",
            PER_SECOND,
            {
                "corrected": "node_edac_correctable_errors_total{@host}",
                "uncorrected": "node_edac_uncorrectable_errors_total{@host}",
            },
            by=f"{BY_HOST}, controller",
            height=6,
            no_data="These hosts have no ECC memory.",
        ),
    ],
)
