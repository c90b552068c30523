"""The fields of INFO that are one number each, under the names of redis_exporter.

Fields: https://redis.io/docs/latest/commands/info/, https://valkey.io/commands/info/; some exist in KeyDB only.
"""

from __future__ import annotations

from deckwatch.exporter import Counter, Gauge, Metric

#: By field: the name without `redis_`, and the help.
_GAUGES = {
    # Server
    "uptime_in_seconds": ("uptime_in_seconds", "Time since the server started, in seconds."),
    "process_id": ("process_id", "Process ID of the server."),
    "io_threads_active": (
        "io_threads_active",
        "Whether I/O threads are active (1), or the number of active ones in some versions.",
    ),
    "hz": ("hz", "Current frequency of the background tasks of the server, in runs per second."),
    "configured_hz": (
        "configured_hz",
        "Configured frequency of the background tasks of the server, in runs per second.",
    ),
    # Clients
    "connected_clients": ("connected_clients", "Number of client connections, without connections from replicas."),
    "blocked_clients": ("blocked_clients", "Number of clients that are waiting in a blocking command."),
    "maxclients": ("max_clients", "Maximum number of connected clients, replicas and cluster links."),
    "tracking_clients": ("tracking_clients", "Number of clients that use client-side caching."),
    "clients_in_timeout_table": ("clients_in_timeout_table", "Number of clients in the timeout table."),
    "pubsub_clients": ("pubsub_clients", "Number of clients in publish/subscribe mode."),
    "watching_clients": ("watching_clients", "Number of clients that watch keys with WATCH."),
    "total_watched_keys": ("total_watched_keys", "Number of keys that are watched with WATCH."),
    "total_blocking_keys": ("total_blocking_keys", "Number of keys that clients are blocked on."),
    "total_blocking_keys_on_nokey": (
        "total_blocking_keys_on_nokey",
        "Number of keys that wake up blocked clients when the key is deleted.",
    ),
    "client_longest_output_list": (
        "client_longest_output_list",
        "Length of the longest client output list (before Redis 5).",
    ),
    "client_biggest_input_buf": (
        "client_biggest_input_buf",
        "Size of the largest client input buffer (before Redis 5).",
    ),
    "client_recent_max_output_buffer": (
        "client_recent_max_output_buffer_bytes",
        "Size of the largest output buffer among recent client connections, in bytes.",
    ),
    "client_recent_max_input_buffer": (
        "client_recent_max_input_buffer_bytes",
        "Size of the largest input buffer among recent client connections, in bytes.",
    ),
    # Memory
    "allocator_active": ("allocator_active_bytes", "Size of the active pages of the allocator, in bytes."),
    "allocator_allocated": ("allocator_allocated_bytes", "Memory allocated from the allocator, in bytes."),
    "allocator_resident": ("allocator_resident_bytes", "Resident memory of the allocator, in bytes."),
    "allocator_frag_ratio": ("allocator_frag_ratio", "Ratio of active to allocated memory of the allocator."),
    "allocator_frag_bytes": ("allocator_frag_bytes", "Active minus allocated memory of the allocator, in bytes."),
    "allocator_muzzy": (
        "allocator_muzzy_bytes",
        "Memory that the allocator has marked as reclaimable by the kernel, in bytes.",
    ),
    "allocator_rss_ratio": ("allocator_rss_ratio", "Ratio of resident to active memory of the allocator."),
    "allocator_rss_bytes": ("allocator_rss_bytes", "Resident minus active memory of the allocator, in bytes."),
    "used_memory": ("memory_used_bytes", "Memory allocated by the server, in bytes."),
    "used_memory_rss": ("memory_used_rss_bytes", "Resident memory of the server, in bytes."),
    "used_memory_peak": ("memory_used_peak_bytes", "Peak memory allocated by the server, in bytes."),
    "used_memory_lua": ("memory_used_lua_bytes", "Memory used by the Lua engine, in bytes."),
    "used_memory_vm_eval": ("memory_used_vm_eval_bytes", "Memory used by the script engine for EVAL, in bytes."),
    "used_memory_scripts_eval": ("memory_used_scripts_eval_bytes", "Memory overhead of EVAL scripts, in bytes."),
    "used_memory_overhead": ("memory_used_overhead_bytes", "Memory used for internal data structures, in bytes."),
    "used_memory_startup": ("memory_used_startup_bytes", "Memory allocated by the server at startup, in bytes."),
    "used_memory_dataset": ("memory_used_dataset_bytes", "Memory used by the data, in bytes."),
    "number_of_cached_scripts": ("number_of_cached_scripts", "Number of cached EVAL scripts."),
    "number_of_functions": ("number_of_functions", "Number of functions."),
    "number_of_libraries": ("number_of_libraries", "Number of function libraries."),
    "used_memory_vm_functions": (
        "memory_used_vm_functions_bytes",
        "Memory used by the script engine for functions, in bytes.",
    ),
    "used_memory_scripts": ("memory_used_scripts_bytes", "Memory overhead of scripts and functions, in bytes."),
    "used_memory_functions": ("memory_used_functions_bytes", "Memory overhead of functions, in bytes."),
    "used_memory_vm_total": (
        "memory_used_vm_total",
        "Memory used by the script engines for EVAL and functions, in bytes.",
    ),
    "total_system_memory": ("total_system_memory_bytes", "Memory of the host of the server, in bytes."),
    "maxmemory": ("memory_max_bytes", "Memory limit of the server, in bytes; 0 means unlimited."),
    "maxmemory_reservation": (
        "memory_max_reservation_bytes",
        "Memory reserved for purposes other than data, in bytes.",
    ),
    "maxmemory_desired_reservation": (
        "memory_max_reservation_desired_bytes",
        "Memory that should be reserved for purposes other than data, in bytes.",
    ),
    "maxfragmentationmemory_reservation": (
        "memory_max_fragmentation_reservation_bytes",
        "Memory reserved for fragmentation, in bytes.",
    ),
    "maxfragmentationmemory_desired_reservation": (
        "memory_max_fragmentation_reservation_desired_bytes",
        "Memory that should be reserved for fragmentation, in bytes.",
    ),
    "mem_fragmentation_ratio": ("mem_fragmentation_ratio", "Ratio of resident to allocated memory."),
    "mem_fragmentation_bytes": ("mem_fragmentation_bytes", "Resident minus allocated memory, in bytes."),
    "mem_clients_slaves": ("mem_clients_slaves", "Memory used by connections from replicas, in bytes."),
    "mem_clients_normal": ("mem_clients_normal", "Memory used by client connections, in bytes."),
    "mem_cluster_links": ("mem_cluster_links_bytes", "Memory used by cluster links, in bytes."),
    "mem_aof_buffer": ("mem_aof_buffer_bytes", "Memory used by the buffers of the append-only file, in bytes."),
    "mem_replication_backlog": ("mem_replication_backlog_bytes", "Memory used by the replication backlog, in bytes."),
    "expired_stale_perc": (
        "expired_stale_percentage",
        "Estimated percentage of keys that have expired but still exist.",
    ),
    "mem_not_counted_for_evict": (
        "mem_not_counted_for_eviction_bytes",
        "Memory that does not count toward the limit (replica and append-only buffers), in bytes.",
    ),
    "mem_total_replication_buffers": (
        "mem_total_replication_buffers_bytes",
        "Memory used by all replication buffers, in bytes.",
    ),
    "mem_overhead_db_hashtable_rehashing": (
        "mem_overhead_db_hashtable_rehashing_bytes",
        "Temporary memory of hash tables that are being resized, in bytes.",
    ),
    "lazyfree_pending_objects": (
        "lazyfree_pending_objects",
        "Number of objects that are waiting to be freed in the background.",
    ),
    "lazyfreed_objects": ("lazyfreed_objects", "Number of objects that were freed in the background."),
    "active_defrag_running": (
        "active_defrag_running",
        "Whether defragmentation is running, or its CPU usage in percent.",
    ),
    "migrate_cached_sockets": ("migrate_cached_sockets_total", "Number of sockets that are open for MIGRATE."),
    "active_defrag_hits": ("defrag_hits", "Number of values that defragmentation moved."),
    "active_defrag_misses": ("defrag_misses", "Number of values that defragmentation examined but did not move."),
    "active_defrag_key_hits": ("defrag_key_hits", "Number of keys that defragmentation moved."),
    "active_defrag_key_misses": ("defrag_key_misses", "Number of keys that defragmentation examined but did not move."),
    # Persistence
    "loading": ("loading_dump_file", "Whether the server is loading its data from disk (1)."),
    "async_loading": (
        "async_loading",
        "Whether the server is loading a replicated data set while it serves the old one (1).",
    ),
    "rdb_changes_since_last_save": ("rdb_changes_since_last_save", "Number of changes since the last snapshot."),
    "rdb_bgsave_in_progress": ("rdb_bgsave_in_progress", "Whether a snapshot is being saved (1)."),
    "rdb_last_save_time": ("rdb_last_save_timestamp_seconds", "Time of the last successful snapshot, in Unix seconds."),
    "rdb_last_bgsave_status": ("rdb_last_bgsave_status", "Whether the last snapshot succeeded (1) or failed (0)."),
    "rdb_last_bgsave_time_sec": (
        "rdb_last_bgsave_duration_sec",
        "Duration of the last snapshot, in seconds; -1 if there was none.",
    ),
    "rdb_current_bgsave_time_sec": (
        "rdb_current_bgsave_duration_sec",
        "Duration of the snapshot in progress, in seconds; -1 if there is none.",
    ),
    "rdb_saves": ("rdb_saves_total", "Number of snapshots since the server started."),
    "rdb_last_cow_size": ("rdb_last_cow_size_bytes", "Memory copied on write during the last snapshot, in bytes."),
    "rdb_last_load_keys_expired": (
        "rdb_last_load_expired_keys",
        "Number of expired keys that were deleted during the last load of a snapshot.",
    ),
    "rdb_last_load_keys_loaded": (
        "rdb_last_load_loaded_keys",
        "Number of keys that were loaded from the last snapshot.",
    ),
    "aof_enabled": ("aof_enabled", "Whether the append-only file is enabled (1)."),
    "aof_rewrite_in_progress": ("aof_rewrite_in_progress", "Whether the append-only file is being rewritten (1)."),
    "aof_rewrite_scheduled": ("aof_rewrite_scheduled", "Whether a rewrite starts after the snapshot in progress (1)."),
    "aof_last_rewrite_time_sec": (
        "aof_last_rewrite_duration_sec",
        "Duration of the last rewrite of the append-only file, in seconds; -1 if there was none.",
    ),
    "aof_current_rewrite_time_sec": (
        "aof_current_rewrite_duration_sec",
        "Duration of the rewrite in progress, in seconds; -1 if there is none.",
    ),
    "aof_last_cow_size": ("aof_last_cow_size_bytes", "Memory copied on write during the last rewrite, in bytes."),
    "aof_current_size": ("aof_current_size_bytes", "Size of the append-only file, in bytes."),
    "aof_base_size": ("aof_base_size_bytes", "Size of the append-only file after its last rewrite, in bytes."),
    "aof_pending_rewrite": (
        "aof_pending_rewrite",
        "Whether a rewrite is pending until the snapshot in progress ends (1).",
    ),
    "aof_buffer_length": ("aof_buffer_length", "Size of the append-only buffer, in bytes."),
    "aof_rewrite_buffer_length": ("aof_rewrite_buffer_length", "Size of the rewrite buffer, in bytes."),
    "aof_pending_bio_fsync": ("aof_pending_bio_fsync", "Number of pending fsync calls in the background."),
    "aof_delayed_fsync": ("aof_delayed_fsync", "Number of delayed fsync calls."),
    "aof_last_bgrewrite_status": (
        "aof_last_bgrewrite_status",
        "Whether the last rewrite of the append-only file succeeded (1) or failed (0).",
    ),
    "aof_last_write_status": (
        "aof_last_write_status",
        "Whether the last write to the append-only file succeeded (1) or failed (0).",
    ),
    "module_fork_in_progress": ("module_fork_in_progress", "Whether a process forked by a module is running (1)."),
    "module_fork_last_cow_size": (
        "module_fork_last_cow_size",
        "Memory copied on write during the last fork of a module, in bytes.",
    ),
    # Stats
    "current_eviction_exceeded_time": (
        "current_eviction_exceeded_time_ms",
        "Time for which memory has exceeded its limit, in milliseconds; 0 if it does not.",
    ),
    "pubsub_channels": ("pubsub_channels", "Number of channels with subscribers."),
    "pubsub_patterns": ("pubsub_patterns", "Number of patterns with subscribers."),
    "pubsubshard_channels": ("pubsubshard_channels", "Number of shard channels with subscribers."),
    "latest_fork_usec": ("latest_fork_seconds", "Duration of the latest fork, in seconds."),
    "tracking_total_keys": ("tracking_total_keys", "Number of keys that are tracked for client-side caching."),
    "tracking_total_items": (
        "tracking_total_items",
        "Number of tracked items: the sum of the clients of each tracked key.",
    ),
    "tracking_total_prefixes": ("tracking_total_prefixes", "Number of prefixes that are tracked in broadcast mode."),
    "instantaneous_eventloop_cycles_per_sec": (
        "instantaneous_eventloop_cycles_per_sec",
        "Current rate of event loop cycles, per second.",
    ),
    "instantaneous_eventloop_duration_usec": (
        "instantaneous_eventloop_duration_usec",
        "Current average duration of an event loop cycle, in microseconds.",
    ),
    # Replication
    "connected_slaves": ("connected_slaves", "Number of connected replicas."),
    "repl_backlog_size": ("replication_backlog_bytes", "Size of the replication backlog, in bytes."),
    "repl_backlog_active": ("repl_backlog_is_active", "Whether the replication backlog is active (1)."),
    "repl_backlog_first_byte_offset": (
        "repl_backlog_first_byte_offset",
        "Replication offset of the first byte in the backlog.",
    ),
    "repl_backlog_histlen": ("repl_backlog_history_bytes", "Size of the data in the replication backlog, in bytes."),
    "master_repl_offset": ("master_repl_offset", "Replication offset of the server, in bytes."),
    "second_repl_offset": (
        "second_repl_offset",
        "Offset up to which the secondary replication ID is accepted; -1 if there is none.",
    ),
    "slave_expires_tracked_keys": (
        "slave_expires_tracked_keys",
        "Number of keys with an expiry that were written to this replica.",
    ),
    "slave_priority": ("slave_priority", "Priority of the replica in a failover."),
    "sync_full": ("replica_resyncs_full", "Number of full resynchronizations with replicas."),
    "sync_partial_ok": ("replica_partial_resync_accepted", "Number of accepted partial resynchronizations."),
    "sync_partial_err": ("replica_partial_resync_denied", "Number of denied partial resynchronizations."),
    # Cluster
    "cluster_stats_messages_sent": ("cluster_messages_sent_total", "Number of messages sent over the cluster bus."),
    "cluster_stats_messages_received": (
        "cluster_messages_received_total",
        "Number of messages received over the cluster bus.",
    ),
    # KeyDB
    "server_threads": ("server_threads_total", "Number of threads of a KeyDB server."),
    "long_lock_waits": ("long_lock_waits_total", "Number of long waits for a lock in a KeyDB server."),
    "current_client_thread": ("current_client_thread", "Index of the KeyDB thread that serves this client."),
}

_COUNTERS = {
    "total_connections_received": ("connections_received_total", "Number of accepted connections."),
    "total_commands_processed": ("commands_processed_total", "Number of processed commands."),
    "rejected_connections": (
        "rejected_connections_total",
        "Number of connections rejected because of the limit on clients.",
    ),
    "total_net_input_bytes": ("net_input_bytes_total", "Data read from the network, in bytes."),
    "total_net_output_bytes": ("net_output_bytes_total", "Data written to the network, in bytes."),
    "total_net_repl_input_bytes": (
        "net_repl_input_bytes_total",
        "Data read from the network for replication, in bytes.",
    ),
    "total_net_repl_output_bytes": (
        "net_repl_output_bytes_total",
        "Data written to the network for replication, in bytes.",
    ),
    "expired_subkeys": ("expired_subkeys_total", "Number of hash fields that expired."),
    "expired_keys": ("expired_keys_total", "Number of keys that expired."),
    "expired_time_cap_reached_count": (
        "expired_time_cap_reached_total",
        "Number of expire cycles that stopped at their time limit.",
    ),
    "expire_cycle_cpu_milliseconds": (
        "expire_cycle_cpu_time_ms_total",
        "CPU time spent on expire cycles, in milliseconds.",
    ),
    "evicted_keys": ("evicted_keys_total", "Number of keys evicted because of the memory limit."),
    "evicted_clients": (
        "evicted_clients_total",
        "Number of clients disconnected because of the memory limit on clients.",
    ),
    "evicted_scripts": ("evicted_scripts_total", "Number of evicted EVAL scripts."),
    "total_eviction_exceeded_time": (
        "eviction_exceeded_time_ms_total",
        "Time for which memory exceeded its limit, in milliseconds.",
    ),
    "keyspace_hits": ("keyspace_hits_total", "Number of successful key lookups."),
    "keyspace_misses": ("keyspace_misses_total", "Number of failed key lookups."),
    "eventloop_cycles": ("eventloop_cycles_total", "Number of event loop cycles."),
    "eventloop_duration_sum": (
        "eventloop_duration_sum_usec_total",
        "Time spent in the event loop, in microseconds.",
    ),
    "eventloop_duration_cmd_sum": (
        "eventloop_duration_cmd_sum_usec_total",
        "Time spent executing commands, in microseconds.",
    ),
    "used_cpu_sys": ("cpu_sys_seconds_total", "CPU time of the server in kernel mode, in seconds."),
    "used_cpu_user": ("cpu_user_seconds_total", "CPU time of the server in user mode, in seconds."),
    "used_cpu_sys_children": (
        "cpu_sys_children_seconds_total",
        "CPU time of child processes in kernel mode, in seconds.",
    ),
    "used_cpu_user_children": (
        "cpu_user_children_seconds_total",
        "CPU time of child processes in user mode, in seconds.",
    ),
    "used_cpu_sys_main_thread": (
        "cpu_sys_main_thread_seconds_total",
        "CPU time of the main thread in kernel mode, in seconds.",
    ),
    "used_cpu_user_main_thread": (
        "cpu_user_main_thread_seconds_total",
        "CPU time of the main thread in user mode, in seconds.",
    ),
    "used_active_time_main_thread": (
        "active_time_main_thread_seconds_total",
        "Time for which the main thread was active, in seconds.",
    ),
    "unexpected_error_replies": (
        "unexpected_error_replies",
        "Number of unexpected error replies, such as those to a replication stream.",
    ),
    "total_error_replies": ("total_error_replies", "Number of error replies."),
    "dump_payload_sanitizations": (
        "dump_payload_sanitizations",
        "Number of deep integrity checks of serialized values.",
    ),
    "total_reads_processed": ("total_reads_processed", "Number of processed read events."),
    "total_writes_processed": ("total_writes_processed", "Number of processed write events."),
    "io_threaded_reads_processed": ("io_threaded_reads_processed", "Number of read events processed by I/O threads."),
    "io_threaded_writes_processed": (
        "io_threaded_writes_processed",
        "Number of write events processed by I/O threads.",
    ),
    "client_query_buffer_limit_disconnections": (
        "client_query_buffer_limit_disconnections_total",
        "Number of clients disconnected at the limit of their query buffer.",
    ),
    "client_output_buffer_limit_disconnections": (
        "client_output_buffer_limit_disconnections_total",
        "Number of clients disconnected at the limit of their output buffer.",
    ),
    "reply_buffer_shrinks": ("reply_buffer_shrinks_total", "Number of output buffers that were shrunk."),
    "reply_buffer_expands": ("reply_buffer_expands_total", "Number of output buffers that were expanded."),
    "acl_access_denied_auth": ("acl_access_denied_auth_total", "Number of failed authentications."),
    "acl_access_denied_cmd": ("acl_access_denied_cmd_total", "Number of commands denied by an ACL."),
    "acl_access_denied_key": ("acl_access_denied_key_total", "Number of commands denied because of their keys."),
    "acl_access_denied_channel": (
        "acl_access_denied_channel_total",
        "Number of commands denied because of their channels.",
    ),
    # KeyDB
    "cached_keys": ("cached_keys_total", "Number of cached keys of a KeyDB server."),
    "storage_provider_read_hits": (
        "storage_provider_read_hits",
        "Number of reads that found the key in the storage of KeyDB.",
    ),
    "storage_provider_read_misses": (
        "storage_provider_read_misses",
        "Number of reads that did not find the key in the storage of KeyDB.",
    ),
}

#: The metric of each field.
FIELDS: dict[str, Metric] = {
    **{field: Gauge(f"redis_{name}", help) for field, (name, help) in _GAUGES.items()},
    **{field: Counter(f"redis_{name}", help) for field, (name, help) in _COUNTERS.items()},
}

#: The number of units of a field in one unit of its metric, where they differ.
DIVISORS = {"latest_fork_usec": 1e6}
