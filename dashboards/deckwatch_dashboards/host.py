"""What is short on this host: CPU, memory, disk, network?"""

from __future__ import annotations

from .frame import Dashboard
from .shapes import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    OPERATIONS,
    PER_SECOND,
    RATIO,
    SECONDS,
    TIME,
    figure,
    grid,
    lines,
    named,
    rates,
    ratio,
    row,
    top,
    trouble,
    up,
)

_REAL = 'fstype!~"tmpfs|ramfs|squashfs|overlay"'
_SIZE = f"(node_filesystem_size_bytes{{@host, {_REAL}}} > 0)"
_USED = f"1 - node_filesystem_avail_bytes{{@host, {_REAL}}} / {_SIZE}"
_CPU = 'rate(node_cpu_seconds_total{@host, mode="idle"}[@rate])'
_DEVICE = "instance, device"
_NIC = 'device!~"lo|veth.*|docker.*|br-.*"'

DASHBOARD = Dashboard(
    name="host",
    title="Host",
    question="What is short on this host: CPU, memory, disk or network?",
    subject="node_uname_info",
    tags=["host"],
    panels=[
        up(
            "Agent",
            "Whether Prometheus can scrape the agent. DOWN: `systemctl status deckwatch`, then the network between.",
            {"{{instance}}": "up{@host}"},
            to="deckwatch",
        ),
        named("System", "The operating system.", "pretty_name", "node_os_info{@host}"),
        figure(
            "Booted",
            "When the host was started. Lately, and nobody did it: look for a panic or an OOM kill.",
            TIME,
            {"{{instance}}": "node_boot_time_seconds{@host} * 1000"},
        ),
        figure(
            "Cores",
            "How many CPUs there are: load and CPU seconds are to be read against it.",
            COUNT,
            {"{{instance}}": f"count by (instance) ({_CPU})"},
        ),
        figure("Memory", "All memory of the host.", BYTES, {"{{instance}}": "node_memory_MemTotal_bytes{@host}"}),
        trouble(
            "OOM kills",
            "Processes that the kernel killed for want of memory, in the last hour. `dmesg -T | grep -i oom` names "
            "them.",
            "sum(increase(node_vmstat_oom_kill{@host}[1h]))",
        ),
        row("CPU"),
        ratio(
            "CPU",
            "How much of all cores is at work, against the config's threshold. Above it for long: see Processes.",
            {"{{instance}}": f"1 - avg by (instance) ({_CPU})"},
            threshold="cpu_ratio",
        ),
        lines(
            "CPU by mode",
            "What the cores do. Much iowait: the disks; much steal: the neighbours of this virtual machine; system: "
            "the kernel.",
            RATIO,
            {
                "{{mode}}": "sum by (mode) (rate(node_cpu_seconds_total{@host, mode!='idle'}[@rate]))"
                f" / scalar(count({_CPU}))"
            },
            stacked=True,
        ),
        lines(
            "Load",
            "Processes that run or wait. Above the number of cores for long, work queues up.",
            COUNT,
            {
                "{{instance}} 1 min": "node_load1{@host}",
                "{{instance}} 5 min": "node_load5{@host}",
                "{{instance}} 15 min": "node_load15{@host}",
            },
            limit={"cores": f"count({_CPU})"},
        ),
        rates(
            "Pressure",
            "Part of the time in which something waited for the CPU, for memory, for the disk. Over 10 %, users "
            "notice.",
            RATIO,
            {
                "CPU": "node_pressure_cpu_waiting_seconds_total{@host}",
                "memory": "node_pressure_memory_waiting_seconds_total{@host}",
                "disk": "node_pressure_io_waiting_seconds_total{@host}",
            },
            by="instance",
        ),
        lines(
            "Processes",
            "Blocked ones wait for a disk: many of them, or the same ones for minutes, mean a disk or a mount that "
            "hangs.",
            COUNT,
            {
                "{{instance}} running": "node_procs_running{@host}",
                "{{instance}} blocked": "node_procs_blocked{@host}",
            },
        ),
        rates(
            "Context switches and interrupts",
            "How busy the scheduler is. A jump without more work: too many threads, or a device that misbehaves.",
            OPERATIONS,
            {"switches": "node_context_switches_total{@host}", "interrupts": "node_intr_total{@host}"},
            by="instance",
        ),
        row("Memory"),
        lines(
            "Memory",
            "Where it is. Cached memory is given back when it is needed; free memory near 0 is normal.",
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
        ratio(
            "Memory in use",
            "What cannot be given out any more. Over 90 %: find the largest under Processes, before the kernel does.",
            {"{{instance}}": "1 - node_memory_MemAvailable_bytes{@host} / node_memory_MemTotal_bytes{@host}"},
        ),
        rates(
            "Swapping and major faults",
            "Pages that came from a disk or went there. More than now and then, everything on the host slows down.",
            OPERATIONS,
            {
                "in": "node_vmstat_pswpin{@host}",
                "out": "node_vmstat_pswpout{@host}",
                "major faults": "node_vmstat_pgmajfault{@host}",
            },
            by="instance",
        ),
        row("Disks"),
        top(
            "Fullest file systems",
            "Part of each that is used. Over 90 %: `du -xh --max-depth=2 MOUNT | sort -h | tail`.",
            RATIO,
            "{{instance}} {{mountpoint}}",
            _USED,
            highest=1,
        ),
        lines(
            "Full in",
            "If the last hour goes on. Only those that fill up are shown; under 4 h, act now.",
            SECONDS,
            {
                "{{instance}} {{mountpoint}}": f"node_filesystem_avail_bytes{{@host, {_REAL}}}"
                f" / -(deriv(node_filesystem_avail_bytes{{@host, {_REAL}}}[1h]) < 0)"
            },
            none="No file system is filling up.",
        ),
        top(
            "Inodes used",
            "A file system without free inodes is full, whatever `df -h` says. `df -i`; look for folders of many small "
            "files.",
            RATIO,
            "{{instance}} {{mountpoint}}",
            f"1 - node_filesystem_files_free{{@host, {_REAL}}} / (node_filesystem_files{{@host, {_REAL}}} > 0)",
            highest=1,
        ),
        rates(
            "Disk throughput",
            "Read and written. Flat at the top of what the device can do: it is the bottleneck.",
            BYTES_PER_SECOND,
            {"read": "node_disk_read_bytes_total{@host}", "written": "node_disk_written_bytes_total{@host}"},
            by=_DEVICE,
        ),
        ratio(
            "Disks at work",
            "Part of the time with a request under way. 100 % is the end for a spinning disk, not for an SSD: see the "
            "latency.",
            {"{{instance}} {{device}}": "rate(node_disk_io_time_seconds_total{@host}[@rate])"},
        ),
        lines(
            "Disk latency",
            "Mean time of a request, its waiting included. Tens of milliseconds on an SSD: it is overloaded or about "
            "to fail.",
            SECONDS,
            {
                "{{instance}} {{device}} read": "rate(node_disk_read_time_seconds_total{@host}[@rate])"
                " / (rate(node_disk_reads_completed_total{@host}[@rate]) > 0)",
                "{{instance}} {{device}} write": "rate(node_disk_write_time_seconds_total{@host}[@rate])"
                " / (rate(node_disk_writes_completed_total{@host}[@rate]) > 0)",
            },
        ),
        grid(
            "File systems that are read-only or do not answer",
            "Read-only: the kernel found errors (`dmesg -T`). Does not answer: a network mount whose server is gone.",
            {
                "read-only": (
                    COUNT,
                    f"node_filesystem_readonly{{@host, {_REAL}}} == 1 unless node_filesystem_device_error{{@host}} == "
                    f"1",
                ),
                "no answer": (COUNT, f"node_filesystem_device_error{{@host, {_REAL}}} == 1"),
            },
            hide=("__name__",),
            none="All file systems answer and can be written.",
        ),
        lines(
            "Open files",
            "Of the whole host, as a part of what the kernel allows. Over 80 %: `lsof | awk '{print $1}' | sort | uniq "
            "-c | sort -n`.",
            RATIO,
            {"{{instance}}": "node_filefd_allocated{@host} / node_filefd_maximum{@host}"},
            width=12,
        ),
        row("Network"),
        rates(
            "Network traffic",
            "Of each interface. Flat at the line's speed: it is full.",
            BYTES_PER_SECOND,
            {
                "in": f"node_network_receive_bytes_total{{@host, {_NIC}}}",
                "out": f"node_network_transmit_bytes_total{{@host, {_NIC}}}",
            },
            by=_DEVICE,
        ),
        rates(
            "Network errors and drops",
            "Ought to be 0. Errors: cable, driver, duplex; drops: the host does not keep up.",
            PER_SECOND,
            {
                "in, errors": f"node_network_receive_errs_total{{@host, {_NIC}}}",
                "out, errors": f"node_network_transmit_errs_total{{@host, {_NIC}}}",
                "in, dropped": f"node_network_receive_drop_total{{@host, {_NIC}}}",
                "out, dropped": f"node_network_transmit_drop_total{{@host, {_NIC}}}",
            },
            by=_DEVICE,
        ),
        lines(
            "TCP connections",
            "By state. Many in close_wait: a program here does not close its connections.",
            COUNT,
            {"{{state}}": 'sum by (state) (node_tcp_connection_states{@host, state!~".*_bytes"}) > 0'},
        ),
        rates(
            "TCP retransmissions",
            "Segments that had to be sent again. A rise without more traffic: the network loses packets.",
            PER_SECOND,
            {"retransmitted": "node_netstat_Tcp_RetransSegs{@host}"},
            by="instance",
        ),
        ratio(
            "Connection tracking",
            "Part of the firewall's table that is in use. Full, new connections are dropped: raise nf_conntrack_max.",
            {"{{instance}}": "node_nf_conntrack_entries{@host} / node_nf_conntrack_entries_limit{@host}"},
        ),
        lines(
            "Clock",
            "How far the clock is off, by the kernel's reckoning. Over 50 ms: `chronyc tracking` or `timedatectl`.",
            SECONDS,
            {"{{instance}}": "abs(node_timex_offset_seconds{@host})"},
        ),
        row("Hardware and services"),
        trouble(
            "Clock not synchronised",
            "Hosts whose clock nobody disciplines. `systemctl status chrony systemd-timesyncd`; not in containers.",
            "sum(node_timex_sync_status{@host} == bool 0)",
            width=6,
            height=5,
        ),
        top(
            "Failed units",
            "Units of systemd that failed. `systemctl --failed`, then `journalctl -u UNIT`.",
            COUNT,
            "{{instance}} {{name}}",
            'node_systemd_unit_state{@host, state="failed"} == 1',
            width=6,
            height=5,
            none="No unit has failed, or systemd does not run here.",
        ),
        lines(
            "Temperatures",
            "Of each sensor. A rise without more work: fans, dust, air.",
            "celsius",
            {"{{instance}} {{chip}} {{sensor}}": "node_hwmon_temp_celsius{@host}"},
            width=6,
            height=5,
            none="This machine has no temperature sensors (virtual ones do not).",
        ),
        rates(
            "Memory errors",
            "Corrected ones announce a module that fails; uncorrected ones are lost data: replace it.",
            PER_SECOND,
            {
                "corrected": "node_edac_correctable_errors_total{@host}",
                "uncorrected": "node_edac_uncorrectable_errors_total{@host}",
            },
            by="instance, controller",
            width=6,
            height=5,
            none="This machine has no ECC memory.",
        ),
    ],
)
