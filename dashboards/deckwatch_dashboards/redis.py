"""Redis: availability, speed, memory and keys."""

from __future__ import annotations

from .dashboard import Dashboard
from .log_panels import events_of, log_lines
from .panels import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    OPERATIONS,
    PER_SECOND,
    SECONDS,
    TIME,
    graph,
    problem_stat,
    rate_graph,
    ratio_graph,
    row,
    stat,
    top_list,
    value_table,
)
from .query import BY_TARGET, TARGET
from .redis_replication import PANELS as REPLICATION

_HITS = f"sum by ({BY_TARGET}) (rate(redis_keyspace_hits_total{{@target}}[@rate]))"
_MISSES = f"sum by ({BY_TARGET}) (rate(redis_keyspace_misses_total{{@target}}[@rate]))"
_BY_COMMAND = f"{BY_TARGET}, cmd"
_COMMANDS = "rate(redis_commands_total{@target}[@rate])"
_SECONDS = "rate(redis_commands_duration_seconds_total{@target}[@rate])"
_SLOW = "redis_slow_command_duration_seconds"
_FAILED_SAVES = "redis_rdb_last_bgsave_status{@target} == bool 0"
_FAILED_APPENDS = "redis_aof_last_write_status{@target} == bool 0"
_LATENCY = 'redis_latency_percentiles_usec{{@target, quantile="{quantile}"}} / 1e6'

DASHBOARD = Dashboard(
    name="redis",
    title="Redis",
    question="Is Redis fast, does it find the keys that it is asked for, and does it have enough memory?",
    instances="redis_up",
    targets="redis_up",
    tags=["redis"],
    panels=[
        problem_stat(
            "Servers down",
            "Servers that the agent cannot reach. Check that the process runs, that the password is right and that "
            "Redis is not loading its data.",
            "sum(redis_up{@target} == bool 0)",
        ),
        problem_stat(
            "Rejected connections",
            "Connections refused in the last hour because maxclients was reached. Raise it, or find the clients that "
            "do not use a connection pool.",
            "sum(increase(redis_rejected_connections_total{@target}[1h]))",
        ),
        problem_stat(
            "Persistence failing",
            "Last snapshots, and last writes to the append-only file, that failed. Check for a full disk, and for "
            "enough memory to fork.",
            f"sum({_FAILED_SAVES}) + (sum({_FAILED_APPENDS}) or vector(0))",
        ),
        problem_stat(
            "Replication broken",
            "Replicas without a connection to their master. They serve old data: check the network and `masterauth`.",
            "sum(redis_master_link_up{@target} == bool 0)",
            no_data="No replica is watched.",
        ),
        stat(
            "Memory in use",
            "Memory of the chosen servers together.",
            BYTES,
            {"": "sum(redis_memory_used_bytes{@target})"},
        ),
        stat(
            "Commands",
            "Commands that the chosen servers execute per second.",
            OPERATIONS,
            {"": "sum(rate(redis_commands_processed_total{@target}[@rate]))"},
        ),
        value_table(
            "Servers",
            "One row per server, servers that are down first. If a server was started recently and nobody restarted "
            "it, look for a crash or an OOM kill.",
            BY_TARGET,
            {
                "up": (COUNT, "redis_up{@target}"),
                "+role, redis_version": ("", "redis_instance_info{@target}"),
                "started": (TIME, "redis_start_time_seconds{@target} * 1000"),
                "memory": (BYTES, "redis_memory_used_bytes{@target}"),
                "maxmemory": (BYTES, "redis_memory_max_bytes{@target} > 0"),
                "clients": (COUNT, "redis_connected_clients{@target}"),
                "keys": (COUNT, f"sum by ({BY_TARGET}) (redis_db_keys{{@target}})"),
                "last snapshot": (TIME, "redis_rdb_last_save_timestamp_seconds{@target} * 1000"),
            },
            sort="up",
            descending=False,
            width=24,
            height=6,
        ),
        row("Commands"),
        rate_graph(
            "Commands per server",
            "Commands executed per second. If the number drops while users are active, the application cannot reach "
            "the server.",
            OPERATIONS,
            {"": "redis_commands_processed_total{@target}"},
        ),
        graph(
            "Mean duration of commands",
            "Time that Redis takes for a command, without the network. Above 1 ms, look for slow commands below.",
            SECONDS,
            {TARGET: f"sum by ({BY_TARGET}) ({_SECONDS}) / (sum by ({BY_TARGET}) ({_COMMANDS}) > 0)"},
        ),
        ratio_graph(
            "Hit ratio",
            "Share of key lookups that found a key, on the servers with the lowest. Below the threshold, keys expire "
            "or are evicted too soon.",
            {TARGET: f"{_HITS} / ({_HITS} + {_MISSES} > 0)"},
            threshold_name="cache_hit_ratio",
            show_lowest=True,
        ),
        top_list(
            "Most frequent commands",
            "Executions per second.",
            OPERATIONS,
            f"{TARGET} {{{{cmd}}}}",
            f"sum by ({_BY_COMMAND}) ({_COMMANDS})",
        ),
        top_list(
            "Commands by total time",
            "Share of the main thread that each command uses. Optimize the first one.",
            COUNT,
            f"{TARGET} {{{{cmd}}}}",
            f"sum by ({_BY_COMMAND}) ({_SECONDS})",
        ),
        value_table(
            "Latency percentiles",
            "Duration of each command since the server was started, at the median, the 99th and the 99.9th percentile. "
            "If the last is far above the median, something blocks the server: see the slow commands.",
            _BY_COMMAND,
            {
                "median": (SECONDS, _LATENCY.format(quantile="50")),
                "99 %": (SECONDS, _LATENCY.format(quantile="99")),
                "99.9 %": (SECONDS, _LATENCY.format(quantile="99.9")),
            },
            sort="99.9 %",
            width=8,
            no_data="No data. Redis reports percentiles since version 7.0.",
        ),
        rate_graph(
            "Errors",
            "Commands that returned an error. OOM: memory is full. WRONGTYPE: a bug in the application. NOAUTH: a "
            "wrong or missing password.",
            PER_SECOND,
            {"": "redis_errors_total{@target}"},
            by=f"{BY_TARGET}, err",
            no_data="No command has failed.",
        ),
        rate_graph(
            "Network traffic",
            "Bytes received and sent. Many bytes sent for few commands point to large values.",
            BYTES_PER_SECOND,
            {"in": "redis_net_input_bytes_total{@target}", "out": "redis_net_output_bytes_total{@target}"},
        ),
        graph(
            "Clients",
            "Connected clients, and clients that wait in a blocking command. If the number rises steadily, the "
            "application leaks connections.",
            COUNT,
            {
                f"{TARGET} connected": "redis_connected_clients{@target}",
                f"{TARGET} blocked": "redis_blocked_clients{@target}",
            },
        ),
        row("Memory and keys"),
        graph(
            "Memory",
            "Memory used for data, and resident memory of the process. At maxmemory, Redis evicts keys or refuses "
            "writes.",
            BYTES,
            {
                f"{TARGET} used": "redis_memory_used_bytes{@target}",
                f"{TARGET} resident": "redis_memory_used_rss_bytes{@target}",
            },
        ),
        ratio_graph(
            "Memory limit",
            "Used memory as a share of maxmemory. At 100 %, Redis evicts keys or refuses writes: raise maxmemory or "
            "store less.",
            {TARGET: "redis_memory_used_bytes{@target} / (redis_memory_max_bytes{@target} > 0)"},
            no_data="No server has a maxmemory.",
        ),
        graph(
            "Fragmentation",
            "Resident memory divided by used memory. Above 1.5 on a large server, run `CONFIG SET activedefrag yes`. "
            "Below 1, the host swaps.",
            COUNT,
            {TARGET: "redis_mem_fragmentation_ratio{@target}"},
        ),
        rate_graph(
            "Evicted and expired keys",
            "Evicted keys were removed because memory was full, although they may be needed. Expired keys reached the "
            "end of their lifetime.",
            PER_SECOND,
            {"evicted": "redis_evicted_keys_total{@target}", "expired": "redis_expired_keys_total{@target}"},
        ),
        graph(
            "Keys",
            "Keys in each database. If the number rises without end, keys are stored without an expiry.",
            COUNT,
            {f"{TARGET} {{{{db}}}}": "redis_db_keys{@target} > 0"},
        ),
        value_table(
            "Key groups",
            "Keys and memory by the common part of their names, as `key_groups` defines it. The largest group shows "
            "what fills the memory.",
            f"{BY_TARGET}, db, key_group",
            {
                "keys": (COUNT, "redis_key_group_count{@target}"),
                "memory": (BYTES, "redis_key_group_memory_usage_bytes{@target}"),
            },
            sort="memory",
            width=8,
            no_data="No data. Set `key_groups` in the Redis exporter to count keys by their names.",
        ),
        top_list(
            "Largest keys",
            "Memory of the keys that `keys` selects. Split large collections, or trim them.",
            BYTES,
            f"{TARGET} {{{{db}}}} {{{{key}}}}",
            "redis_key_memory_usage_bytes{@target}",
            width=12,
            no_data="No data. Set `keys` in the Redis exporter to measure keys.",
        ),
        graph(
            "Key sizes",
            "Elements of collections and bytes of strings, for the keys that `keys` selects. A list that grows without "
            "end is a queue that nobody reads.",
            COUNT,
            {f"{TARGET} {{{{db}}}} {{{{key}}}}": "redis_key_size{@target}"},
            width=12,
            no_data="No data. Set `keys` in the Redis exporter to measure keys.",
        ),
        row("Slow commands"),
        rate_graph(
            "Slow commands",
            "Entries of the slow log by command. KEYS, SMEMBERS and large ranges block all other clients: replace them "
            "with SCAN or smaller ranges.",
            PER_SECOND,
            {"": f"{_SLOW}_count{{@target}}"},
            by=f"{BY_TARGET}, command",
            no_data="No command was slow since the agent was started.",
        ),
        graph(
            "Duration of slow commands",
            "Median and 95th percentile of the commands in the slow log.",
            SECONDS,
            {
                name: f"histogram_quantile({quantile}, sum by (le) (rate({_SLOW}_bucket{{@target}}[@rate])) > 0)"
                for name, quantile in (("median", 0.5), ("95th percentile", 0.95))
            },
            no_data="No command was slow in this time range.",
        ),
        top_list(
            "Latency spikes",
            "The last event of each kind that was longer than latency-monitor-threshold. `LATENCY DOCTOR` explains "
            "them.",
            SECONDS,
            f"{TARGET} {{{{event_name}}}}",
            "redis_latency_spike_duration_seconds{@target}",
            no_data="No spike, or latency-monitor-threshold is 0.",
        ),
        log_lines(
            "Slow command events",
            "Entries of the slow log. Arguments are hidden unless `slowlog.redact` is false.",
            events_of("redis.slow_command")
            + " | line_format `{{.target}}  {{.command}}  {{.duration_seconds}} s  {{.argument_count}} arguments"
            "  from {{.client_address}} {{.client_name}}`",
        ),
        *REPLICATION,
    ],
)
