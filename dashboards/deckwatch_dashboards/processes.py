"""Which of the watched processes take the CPU and the memory, leak, or come and go?"""

from __future__ import annotations

from .frame import Dashboard
from .shapes import BYTES, BYTES_PER_SECOND, COUNT, OPERATIONS, SECONDS, grid, lines, rates, ratio, top

_GROUP = "instance, groupname"
_RESIDENT = 'namedprocess_namegroup_memory_bytes{@host, memtype="resident"}'
_COUNT = "namedprocess_namegroup_num_procs{@host}"

DASHBOARD = Dashboard(
    name="processes",
    title="Processes",
    question="Which of the watched processes take the CPU and the memory, leak, or come and go?",
    subject="namedprocess_namegroup_num_procs",
    tags=["host"],
    panels=[
        grid(
            "Groups",
            "The groups of `exporters.system.processes`. None running: the service is down, or `match` no longer fits "
            "its command line.",
            {
                "running": (COUNT, f"sum by ({_GROUP}) ({_COUNT})"),
                "threads": (COUNT, f"sum by ({_GROUP}) (namedprocess_namegroup_num_threads{{@host}})"),
                "resident": (BYTES, f"sum by ({_GROUP}) ({_RESIDENT})"),
                "open files": (COUNT, f"sum by ({_GROUP}) (namedprocess_namegroup_open_filedesc{{@host}})"),
                "age of the oldest": (
                    SECONDS,
                    f"time() - min by ({_GROUP}) (namedprocess_namegroup_oldest_start_time_seconds{{@host}})",
                ),
            },
            width=16,
        ),
        top(
            "CPU now",
            "Cores that each group uses. 1 is one core, all the time.",
            COUNT,
            "{{instance}} {{groupname}}",
            f"sum by ({_GROUP}) (rate(namedprocess_namegroup_cpu_seconds_total{{@host}}[@rate]))",
        ),
        rates(
            "CPU",
            "Cores that each group uses, its own code and the kernel's for it. Stuck at whole cores: a loop, or too "
            "few workers.",
            COUNT,
            {
                "user": 'namedprocess_namegroup_cpu_seconds_total{@host, mode="user"}',
                "system": 'namedprocess_namegroup_cpu_seconds_total{@host, mode="system"}',
            },
            by=_GROUP,
        ),
        lines(
            "Memory of one process",
            "Resident memory, on average over the group, against the config's threshold. A slope that never ends is a "
            "leak.",
            BYTES,
            {"{{instance}} {{groupname}}": f"{_RESIDENT} / on (job, instance, groupname) ({_COUNT} > 0)"},
            threshold="process_memory_bytes",
        ),
        lines(
            "Memory of the group",
            "Resident memory of all its processes; pages that they share count for each.",
            BYTES,
            {"{{instance}} {{groupname}}": _RESIDENT},
        ),
        lines(
            "Growth of memory",
            "How fast the resident memory grows, over 15 minutes. Above 0 all day: a leak; restart it and look for "
            "what grows.",
            BYTES_PER_SECOND,
            {"{{instance}} {{groupname}}": f"deriv({_RESIDENT}[15m])"},
            lowest=None,
        ),
        lines(
            "Processes",
            "How many run. Steps down and up: workers die; see the start time of the oldest and the Logs.",
            COUNT,
            {"{{instance}} {{groupname}}": _COUNT},
        ),
        lines(
            "Zombies",
            "Processes that ended and whose parent does not ask. Ought to be 0: the parent has a fault.",
            COUNT,
            {"{{instance}} {{groupname}}": 'namedprocess_namegroup_states{@host, state="Zombie"}'},
        ),
        rates(
            "Disk traffic",
            "What the processes read from disks and write to them.",
            BYTES_PER_SECOND,
            {
                "read": "namedprocess_namegroup_read_bytes_total{@host}",
                "written": "namedprocess_namegroup_write_bytes_total{@host}",
            },
            by=_GROUP,
        ),
        ratio(
            "Open files of the worst process",
            "As a part of its limit. Near 100 % it fails to open files and connections: raise LimitNOFILE, or find "
            "what it leaks.",
            {"{{instance}} {{groupname}}": "namedprocess_namegroup_worst_fd_ratio{@host}"},
        ),
        rates(
            "Context switches",
            "Nonvoluntary ones: the process wanted to go on and had to wait for a CPU.",
            OPERATIONS,
            {
                "voluntary": 'namedprocess_namegroup_context_switches_total{@host, ctxswitchtype="voluntary"}',
                "nonvoluntary": 'namedprocess_namegroup_context_switches_total{@host, ctxswitchtype="nonvoluntary"}',
            },
            by=_GROUP,
        ),
        rates(
            "Major page faults",
            "Pages that had to be read from a disk. Many: memory is short.",
            OPERATIONS,
            {"": "namedprocess_namegroup_major_page_faults_total{@host}"},
            by=_GROUP,
        ),
        lines(
            "Restarts",
            "Processes that were replaced by new ones in the last hour. Servers that fork for each session have many "
            "by nature.",
            COUNT,
            {"{{instance}} {{groupname}}": "increase(deckwatch_process_restarts_total{@host}[1h])"},
        ),
        lines(
            "Threads",
            "Of the group. Rising without end: threads are started and never joined.",
            COUNT,
            {"{{instance}} {{groupname}}": "namedprocess_namegroup_num_threads{@host}"},
        ),
    ],
)
