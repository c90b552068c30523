"""Processes: the groups that `exporters.system.processes` watches."""

from __future__ import annotations

from .dashboard import Dashboard
from .panels import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    OPERATIONS,
    SECONDS,
    graph,
    rate_graph,
    ratio_graph,
    top_list,
    value_table,
)
from .query import BY_HOST, HOST

_BY_GROUP = f"{BY_HOST}, groupname"
_GROUP = f"{HOST} {{{{groupname}}}}"
_RESIDENT = 'namedprocess_namegroup_memory_bytes{@host, memtype="resident"}'
_PROCESSES = "namedprocess_namegroup_num_procs{@host}"

DASHBOARD = Dashboard(
    name="processes",
    title="Processes",
    question="Which watched processes use CPU and memory, leak memory, or restart?",
    instances="namedprocess_namegroup_num_procs",
    tags=["host"],
    panels=[
        value_table(
            "Process groups",
            "The groups of `exporters.system.processes`. If no process is running, the service is down or `match` does "
            "not fit its command line.",
            _BY_GROUP,
            {
                "processes": (COUNT, _PROCESSES),
                "threads": (COUNT, "namedprocess_namegroup_num_threads{@host}"),
                "resident memory": (BYTES, _RESIDENT),
                "open files": (COUNT, "namedprocess_namegroup_open_filedesc{@host}"),
                "age of the oldest": (SECONDS, "time() - namedprocess_namegroup_oldest_start_time_seconds{@host}"),
            },
            sort="processes",
            descending=False,
            width=16,
        ),
        top_list(
            "CPU now",
            "Cores that each group uses. 1 means one core all the time.",
            COUNT,
            _GROUP,
            f"sum by ({_BY_GROUP}) (rate(namedprocess_namegroup_cpu_seconds_total{{@host}}[@rate]))",
        ),
        rate_graph(
            "CPU",
            "Cores that each group uses, in its own code and in the kernel. If it stays at a whole number of cores, "
            "look for an endless loop, or add workers.",
            COUNT,
            {
                "user": 'namedprocess_namegroup_cpu_seconds_total{@host, mode="user"}',
                "system": 'namedprocess_namegroup_cpu_seconds_total{@host, mode="system"}',
            },
            by=_BY_GROUP,
        ),
        graph(
            "Memory per process",
            "Resident memory of the group's largest process, and the mean of all its processes. If they grow without "
            "end, the program leaks memory; if only the largest does, look at that process.",
            BYTES,
            {
                f"{_GROUP}, largest": "deckwatch_process_max_resident_bytes{@host}",
                f"{_GROUP}, mean": f"{_RESIDENT} / on ({_BY_GROUP}) ({_PROCESSES} > 0)",
            },
            threshold_name="process_memory_bytes",
        ),
        graph(
            "Memory per group",
            "Resident memory of all processes of the group. Memory that they share is counted for each of them.",
            BYTES,
            {_GROUP: _RESIDENT},
        ),
        graph(
            "Memory growth",
            "How fast resident memory grows, over 15 minutes. If it stays above 0 all day, the program leaks memory: "
            "restart it and find the leak.",
            BYTES_PER_SECOND,
            {_GROUP: f"deriv({_RESIDENT}[15m])"},
            minimum=None,
        ),
        graph(
            "Processes",
            "Running processes. If the number drops and recovers, workers crash: see the restarts and the logs.",
            COUNT,
            {_GROUP: _PROCESSES},
        ),
        graph(
            "Restarts",
            "Processes that were replaced by new ones within an hour. Servers that start a process per connection "
            "always have many; otherwise workers crash.",
            COUNT,
            {_GROUP: "increase(deckwatch_process_restarts_total{@host}[1h])"},
        ),
        graph(
            "Zombies",
            "Processes that have ended but that their parent has not waited for. Should be 0: the parent has a bug.",
            COUNT,
            {_GROUP: 'namedprocess_namegroup_states{@host, state="Zombie"}'},
        ),
        rate_graph(
            "Disk traffic",
            "Bytes that the processes read from disk and wrote to disk.",
            BYTES_PER_SECOND,
            {
                "read": "namedprocess_namegroup_read_bytes_total{@host}",
                "written": "namedprocess_namegroup_write_bytes_total{@host}",
            },
            by=_BY_GROUP,
        ),
        ratio_graph(
            "Open files",
            "Open files as a share of the limit, for the process of the group that is closest to it. At 100 %, opening "
            "files and connections fails: raise LimitNOFILE, or find the leak.",
            {_GROUP: "namedprocess_namegroup_worst_fd_ratio{@host}"},
        ),
        rate_graph(
            "Context switches",
            "After an involuntary switch, the process had to wait for a CPU: if there are many, the host needs more "
            "CPU.",
            OPERATIONS,
            {
                "voluntary": 'namedprocess_namegroup_context_switches_total{@host, ctxswitchtype="voluntary"}',
                "involuntary": 'namedprocess_namegroup_context_switches_total{@host, ctxswitchtype="nonvoluntary"}',
            },
            by=_BY_GROUP,
        ),
        rate_graph(
            "Major page faults",
            "Pages that had to be read from disk. If there are many, memory is short.",
            OPERATIONS,
            {"": "namedprocess_namegroup_major_page_faults_total{@host}"},
            by=_BY_GROUP,
        ),
        graph(
            "Threads",
            "Threads of all processes of the group. If the number grows without end, the program starts threads and "
            "never ends them.",
            COUNT,
            {_GROUP: "namedprocess_namegroup_num_threads{@host}"},
        ),
    ],
)
