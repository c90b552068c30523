"""Is Redis quick, does it find what it is asked for, and does its memory suffice?"""

from __future__ import annotations

from .frame import Dashboard
from .shapes import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    OPERATIONS,
    PER_SECOND,
    SECONDS,
    TIME,
    events,
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

_HITS = "sum by (instance, target) (rate(redis_keyspace_hits_total{@target}[@rate]))"
_MISSES = "sum by (instance, target) (rate(redis_keyspace_misses_total{@target}[@rate]))"
_COMMANDS = "sum by (instance, target, cmd) (rate(redis_commands_total{@target}[@rate]))"
_SECONDS = "sum by (instance, target, cmd) (rate(redis_commands_duration_seconds_total{@target}[@rate]))"
_SLOW = "redis_slow_command_duration_seconds"
_NAME = "{{instance}} {{target}}"

DASHBOARD = Dashboard(
    name="redis",
    title="Redis",
    question="Is Redis quick, does it find what it is asked for, and does its memory suffice?",
    subject="redis_up",
    targets="redis_up",
    tags=["redis"],
    panels=[
        up(
            "Redis",
            "Whether each server answers. DOWN: is the process there, does the password still fit, is it loading its "
            "data?",
            {_NAME: "redis_up{@target}"},
            width=6,
        ),
        named("Version", "The server's version.", "redis_version", "redis_instance_info{@target}"),
        figure(
            "Started",
            "When the server was started. Lately, and nobody did it: a crash or an OOM kill; without persistence the "
            "data is gone.",
            TIME,
            {_NAME: "redis_start_time_seconds{@target} * 1000"},
            width=6,
        ),
        trouble(
            "Connections refused",
            "In the last hour, since maxclients was reached. Raise it, or find the clients that do not pool.",
            "sum(increase(redis_rejected_connections_total{@target}[1h]))",
        ),
        trouble(
            "Persistence failing",
            "Servers whose last snapshot or last write to the append-only file failed. Disk full, or no memory to "
            "fork.",
            "sum((redis_rdb_last_bgsave_status{@target} == bool 0) + (redis_aof_last_write_status{@target} == bool 0))",
        ),
        row("Work"),
        rates(
            "Commands",
            "Executed each second. A fall without fewer users: the application cannot reach it.",
            OPERATIONS,
            {"": "redis_commands_processed_total{@target}"},
        ),
        lines(
            "Mean time of a command",
            "Inside Redis. Over 1 ms: slow commands; see below which.",
            SECONDS,
            {
                _NAME: "sum by (instance, target) (rate(redis_commands_duration_seconds_total{@target}[@rate]))"
                " / (sum by (instance, target) (rate(redis_commands_total{@target}[@rate])) > 0)"
            },
        ),
        ratio(
            "Hit ratio",
            "Lookups that found their key, against the config's threshold. Below it: keys expire or are evicted too "
            "soon.",
            {_NAME: f"{_HITS} / ({_HITS} + {_MISSES} > 0)"},
            threshold="cache_hit_ratio",
        ),
        top(
            "Most used commands",
            "Executions each second.",
            OPERATIONS,
            f"{_NAME} {{{{cmd}}}}",
            _COMMANDS,
        ),
        top(
            "Commands by time",
            "Part of one core that each command takes: Redis has one for commands. The first is what to optimise.",
            COUNT,
            f"{_NAME} {{{{cmd}}}}",
            _SECONDS,
        ),
        rates(
            "Errors by kind",
            "Replies that were errors. OOM: memory is full; WRONGTYPE: a fault in the application; NOAUTH: a password.",
            PER_SECOND,
            {"": "redis_errors_total{@target}"},
            by="instance, target, err",
            none="No command has failed.",
        ),
        row("Memory and keys"),
        lines(
            "Memory",
            "Used, and resident with what the allocator holds, against maxmemory. At the limit keys are evicted, or "
            "writes fail.",
            BYTES,
            {
                f"{_NAME} used": "redis_memory_used_bytes{@target}",
                f"{_NAME} resident": "redis_memory_used_rss_bytes{@target}",
            },
            limit={"maxmemory": "max(redis_memory_max_bytes{@target} > 0)"},
        ),
        rates(
            "Keys evicted and expired",
            "Evicted: pushed out for want of memory, and wanted perhaps. Expired: their time was over.",
            PER_SECOND,
            {"evicted": "redis_evicted_keys_total{@target}", "expired": "redis_expired_keys_total{@target}"},
        ),
        lines(
            "Keys",
            "In each database. A rise without end: keys without an expiry.",
            COUNT,
            {f"{_NAME} {{{{db}}}}": "redis_db_keys{@target} > 0"},
        ),
        lines(
            "Fragmentation",
            "Resident memory to used memory. Over 1.5 with much memory: `CONFIG SET activedefrag yes`; under 1: it "
            "swaps.",
            COUNT,
            {_NAME: "redis_mem_fragmentation_ratio{@target}"},
        ),
        rates(
            "Network",
            "Bytes in and out. Much out with few commands: large values.",
            BYTES_PER_SECOND,
            {"in": "redis_net_input_bytes_total{@target}", "out": "redis_net_output_bytes_total{@target}"},
        ),
        lines(
            "Clients",
            "Connected, and blocked ones that wait for a list or a stream; the limit is maxclients. Rising steadily: "
            "connections leak.",
            COUNT,
            {
                f"{_NAME} connected": "redis_connected_clients{@target}",
                f"{_NAME} blocked": "redis_blocked_clients{@target}",
            },
        ),
        row("Slow commands"),
        rates(
            "Slow commands",
            "Entries of the slow log, by command. KEYS, SMEMBERS and large ranges block everybody else.",
            PER_SECOND,
            {"": f"{_SLOW}_count{{@target}}"},
            by="instance, target, command",
            none="No command was slow since the agent was started.",
        ),
        lines(
            "Duration of slow commands",
            "The median and the 95th percentile.",
            SECONDS,
            {
                f"{quantile}": f"histogram_quantile({value}, sum by (le) (rate({_SLOW}_bucket{{@target}}[@rate])) > 0)"
                for quantile, value in (("median", 0.5), ("95th percentile", 0.95))
            },
            none="No command was slow in this time.",
        ),
        top(
            "Latency spikes",
            "The last one of each kind, where latency-monitor-threshold is set. `LATENCY DOCTOR` explains them.",
            SECONDS,
            f"{_NAME} {{{{event_name}}}}",
            "redis_latency_spike_duration_seconds{@target}",
            none="No spike, or latency-monitor-threshold is 0.",
        ),
        events(
            "Slow commands, as they came",
            "From the slow log; arguments are hidden unless `slowlog.redact` is false.",
            '{job="deckwatch"} |= `redis.slow_command` | json | event=`redis.slow_command` | target=~`$target`'
            " | line_format `{{.target}}  {{.command}}  {{.duration_seconds}} s  {{.argument_count}} arguments"
            "  from {{.client_address}} {{.client_name}}`",
        ),
        row("Replication, persistence and streams"),
        lines(
            "Replicas' lag",
            "Time since each replica acknowledged. Rising: the network, or a replica that does not keep up.",
            SECONDS,
            {f"{_NAME} {{{{slave_ip}}}}:{{{{slave_port}}}}": "redis_connected_slave_lag_seconds{@target}"},
            none="No replica is connected.",
        ),
        up(
            "Link to the master",
            "As the replicas see it. DOWN: they serve old data.",
            {_NAME: "redis_master_link_up{@target}"},
            height=8,
        ),
        lines(
            "Changes not saved",
            "Since the last snapshot: what a crash would lose without an append-only file.",
            COUNT,
            {_NAME: "redis_rdb_changes_since_last_save{@target}"},
        ),
        figure(
            "Last snapshot",
            "When it was saved. Long ago with many changes: see the log of Redis.",
            TIME,
            {_NAME: "redis_rdb_last_save_timestamp_seconds{@target} * 1000"},
            height=8,
        ),
        grid(
            "Groups of streams",
            "Entries that wait, entries delivered but not acknowledged, consumers. Waiting and no consumer: the "
            "workers are down.",
            {
                "waiting": (COUNT, "redis_stream_group_lag{@target}"),
                "pending": (COUNT, "redis_stream_group_messages_pending{@target}"),
                "consumers": (COUNT, "redis_stream_group_consumers{@target}"),
            },
            hide=("__name__", "job"),
            none="No stream is named in the config, or it has no group.",
        ),
        lines(
            "Streams' oldest entry that waits",
            "How long it has waited to be delivered. Rising: too few consumers, or none.",
            SECONDS,
            {
                f"{_NAME} {{{{stream}}}} {{{{group}}}}": "time() -"
                " redis_stream_group_oldest_undelivered_timestamp_seconds{@target}"
            },
            width=12,
            none="Nothing waits in a stream.",
        ),
    ],
)
