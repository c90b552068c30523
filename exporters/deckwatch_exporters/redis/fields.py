"""The fields of INFO that are one number each, under redis_exporter's names.

The fields: https://redis.io/docs/latest/commands/info/, https://valkey.io/commands/info/; some are KeyDB's own.
"""

from __future__ import annotations

from deckwatch.exporter import Counter, Gauge, Metric

#: By field: the name without `redis_`, and what it is.
_GAUGES = {
    # Server
    "uptime_in_seconds": ("uptime_in_seconds", "Seconds since the server started."),
    "process_id": ("process_id", "Process id of the server."),
    "io_threads_active": ("io_threads_active", "Whether I/O threads are active, or how many."),
    "hz": ("hz", "How often a second the server runs its background tasks now."),
    "configured_hz": ("configured_hz", "How often a second the server is set to run its background tasks."),
    # Clients
    "connected_clients": ("connected_clients", "Client connections, replicas excluded."),
    "blocked_clients": ("blocked_clients", "Clients that wait in a blocking call."),
    "maxclients": ("max_clients", "Limit on connected clients, replicas and cluster links."),
    "tracking_clients": ("tracking_clients", "Clients whose keys are tracked for client-side caching."),
    "clients_in_timeout_table": ("clients_in_timeout_table", "Clients in the table of timeouts."),
    "pubsub_clients": ("pubsub_clients", "Clients in publish/subscribe mode."),
    "watching_clients": ("watching_clients", "Clients that watch keys with WATCH."),
    "total_watched_keys": ("total_watched_keys", "Keys that are watched with WATCH."),
    "total_blocking_keys": ("total_blocking_keys", "Keys that clients block on."),
    "total_blocking_keys_on_nokey": (
        "total_blocking_keys_on_nokey",
        "Keys whose blocked clients want to wake up when the key is deleted.",
    ),
    "client_longest_output_list": ("client_longest_output_list", "Longest output list of a client (before Redis 5)."),
    "client_biggest_input_buf": ("client_biggest_input_buf", "Biggest input buffer of a client (before Redis 5)."),
    "client_recent_max_output_buffer": (
        "client_recent_max_output_buffer_bytes",
        "Biggest output buffer of a client of late, in bytes.",
    ),
    "client_recent_max_input_buffer": (
        "client_recent_max_input_buffer_bytes",
        "Biggest input buffer of a client of late, in bytes.",
    ),
    # Memory
    "allocator_active": ("allocator_active_bytes", "Bytes in the allocator's active pages."),
    "allocator_allocated": ("allocator_allocated_bytes", "Bytes that the allocator has handed out."),
    "allocator_resident": ("allocator_resident_bytes", "Bytes resident in the allocator."),
    "allocator_frag_ratio": ("allocator_frag_ratio", "Active to allocated bytes of the allocator, as a ratio."),
    "allocator_frag_bytes": ("allocator_frag_bytes", "Active minus allocated bytes of the allocator."),
    "allocator_muzzy": ("allocator_muzzy_bytes", "Bytes that the allocator may give back to the system."),
    "allocator_rss_ratio": ("allocator_rss_ratio", "Resident to active bytes of the allocator, as a ratio."),
    "allocator_rss_bytes": ("allocator_rss_bytes", "Resident minus active bytes of the allocator."),
    "used_memory": ("memory_used_bytes", "Memory that the server has allocated, in bytes."),
    "used_memory_rss": ("memory_used_rss_bytes", "Resident memory of the server, in bytes."),
    "used_memory_peak": ("memory_used_peak_bytes", "Most memory that the server has ever allocated, in bytes."),
    "used_memory_lua": ("memory_used_lua_bytes", "Memory used by the Lua engine, in bytes."),
    "used_memory_vm_eval": ("memory_used_vm_eval_bytes", "Memory used by the EVAL virtual machine, in bytes."),
    "used_memory_scripts_eval": ("memory_used_scripts_eval_bytes", "Overhead of EVAL scripts, in bytes."),
    "used_memory_overhead": ("memory_used_overhead_bytes", "Memory used for the server's own structures, in bytes."),
    "used_memory_startup": ("memory_used_startup_bytes", "Memory used at the server's start, in bytes."),
    "used_memory_dataset": ("memory_used_dataset_bytes", "Memory used by the data, in bytes."),
    "number_of_cached_scripts": ("number_of_cached_scripts", "EVAL scripts that the server holds."),
    "number_of_functions": ("number_of_functions", "Functions that are loaded."),
    "number_of_libraries": ("number_of_libraries", "Function libraries that are loaded."),
    "used_memory_vm_functions": (
        "memory_used_vm_functions_bytes",
        "Memory used by the functions' virtual machine, in bytes.",
    ),
    "used_memory_scripts": ("memory_used_scripts_bytes", "Overhead of scripts and functions, in bytes."),
    "used_memory_functions": ("memory_used_functions_bytes", "Overhead of functions, in bytes."),
    "used_memory_vm_total": ("memory_used_vm_total", "Memory used by both virtual machines, in bytes."),
    "total_system_memory": ("total_system_memory_bytes", "Memory of the server's host, in bytes."),
    "maxmemory": ("memory_max_bytes", "Limit on the memory for data, in bytes; 0 is none."),
    "maxmemory_reservation": ("memory_max_reservation_bytes", "Memory reserved for other than data, in bytes."),
    "maxmemory_desired_reservation": (
        "memory_max_reservation_desired_bytes",
        "Memory that was to be reserved for other than data, in bytes.",
    ),
    "maxfragmentationmemory_reservation": (
        "memory_max_fragmentation_reservation_bytes",
        "Memory reserved for fragmentation, in bytes.",
    ),
    "maxfragmentationmemory_desired_reservation": (
        "memory_max_fragmentation_reservation_desired_bytes",
        "Memory that was to be reserved for fragmentation, in bytes.",
    ),
    "mem_fragmentation_ratio": ("mem_fragmentation_ratio", "Resident to allocated memory, as a ratio."),
    "mem_fragmentation_bytes": ("mem_fragmentation_bytes", "Resident minus allocated memory, in bytes."),
    "mem_clients_slaves": ("mem_clients_slaves", "Memory of the replicas' connections, in bytes."),
    "mem_clients_normal": ("mem_clients_normal", "Memory of the clients' connections, in bytes."),
    "mem_cluster_links": ("mem_cluster_links_bytes", "Memory of the cluster's links, in bytes."),
    "mem_aof_buffer": ("mem_aof_buffer_bytes", "Memory of the buffers of the append-only file, in bytes."),
    "mem_replication_backlog": ("mem_replication_backlog_bytes", "Memory of the replication backlog, in bytes."),
    "expired_stale_perc": ("expired_stale_percentage", "Share of keys that are expired but still there, in percent."),
    "mem_not_counted_for_evict": (
        "mem_not_counted_for_eviction_bytes",
        "Memory that does not count towards the limit (replicas' and append-only buffers), in bytes.",
    ),
    "mem_total_replication_buffers": (
        "mem_total_replication_buffers_bytes",
        "Memory of all replication buffers, in bytes.",
    ),
    "mem_overhead_db_hashtable_rehashing": (
        "mem_overhead_db_hashtable_rehashing_bytes",
        "Temporary memory of hash tables that are being resized, in bytes.",
    ),
    "lazyfree_pending_objects": ("lazyfree_pending_objects", "Objects that wait to be freed in the background."),
    "lazyfreed_objects": ("lazyfreed_objects", "Objects that were freed in the background."),
    "active_defrag_running": ("active_defrag_running", "Whether memory is being defragmented, or its CPU percentage."),
    "migrate_cached_sockets": ("migrate_cached_sockets_total", "Sockets kept open for MIGRATE."),
    "active_defrag_hits": ("defrag_hits", "Values that defragmentation moved."),
    "active_defrag_misses": ("defrag_misses", "Values that defragmentation looked at and left."),
    "active_defrag_key_hits": ("defrag_key_hits", "Keys that defragmentation moved."),
    "active_defrag_key_misses": ("defrag_key_misses", "Keys that defragmentation looked at and left."),
    # Persistence
    "loading": ("loading_dump_file", "Whether the server is loading its data from disk."),
    "async_loading": ("async_loading", "Whether the server loads a replica's data while it serves old ones."),
    "rdb_changes_since_last_save": ("rdb_changes_since_last_save", "Changes since the last snapshot."),
    "rdb_bgsave_in_progress": ("rdb_bgsave_in_progress", "Whether a snapshot is being saved."),
    "rdb_last_save_time": ("rdb_last_save_timestamp_seconds", "When the last snapshot was saved, in Unix seconds."),
    "rdb_last_bgsave_status": ("rdb_last_bgsave_status", "Whether the last snapshot could be saved."),
    "rdb_last_bgsave_time_sec": (
        "rdb_last_bgsave_duration_sec",
        "Seconds that the last snapshot took; -1 is none yet.",
    ),
    "rdb_current_bgsave_time_sec": (
        "rdb_current_bgsave_duration_sec",
        "Seconds that the snapshot under way has taken; -1 is none.",
    ),
    "rdb_saves": ("rdb_saves_total", "Snapshots since the server started."),
    "rdb_last_cow_size": ("rdb_last_cow_size_bytes", "Memory copied on write during the last snapshot, in bytes."),
    "rdb_last_load_keys_expired": ("rdb_last_load_expired_keys", "Expired keys met in the last load of a snapshot."),
    "rdb_last_load_keys_loaded": ("rdb_last_load_loaded_keys", "Keys loaded in the last load of a snapshot."),
    "aof_enabled": ("aof_enabled", "Whether the append-only file is on."),
    "aof_rewrite_in_progress": ("aof_rewrite_in_progress", "Whether the append-only file is being rewritten."),
    "aof_rewrite_scheduled": ("aof_rewrite_scheduled", "Whether a rewrite follows the snapshot under way."),
    "aof_last_rewrite_time_sec": (
        "aof_last_rewrite_duration_sec",
        "Seconds that the last rewrite of the append-only file took; -1 is none yet.",
    ),
    "aof_current_rewrite_time_sec": (
        "aof_current_rewrite_duration_sec",
        "Seconds that the rewrite under way has taken; -1 is none.",
    ),
    "aof_last_cow_size": ("aof_last_cow_size_bytes", "Memory copied on write during the last rewrite, in bytes."),
    "aof_current_size": ("aof_current_size_bytes", "Size of the append-only file, in bytes."),
    "aof_base_size": ("aof_base_size_bytes", "Size of the append-only file after its last rewrite, in bytes."),
    "aof_pending_rewrite": ("aof_pending_rewrite", "Whether a rewrite waits for the snapshot under way."),
    "aof_buffer_length": ("aof_buffer_length", "Size of the append-only buffer, in bytes."),
    "aof_rewrite_buffer_length": ("aof_rewrite_buffer_length", "Size of the rewrite buffer, in bytes."),
    "aof_pending_bio_fsync": ("aof_pending_bio_fsync", "Syncs that wait in the background."),
    "aof_delayed_fsync": ("aof_delayed_fsync", "Syncs that were delayed."),
    "aof_last_bgrewrite_status": ("aof_last_bgrewrite_status", "Whether the last rewrite worked."),
    "aof_last_write_status": ("aof_last_write_status", "Whether the last write to the append-only file worked."),
    "module_fork_in_progress": ("module_fork_in_progress", "Whether a module has forked."),
    "module_fork_last_cow_size": ("module_fork_last_cow_size", "Memory copied on write in a module's last fork."),
    # Stats
    "current_eviction_exceeded_time": (
        "current_eviction_exceeded_time_ms",
        "Milliseconds for which memory has been over its limit; 0 when it is not.",
    ),
    "pubsub_channels": ("pubsub_channels", "Channels with subscribers."),
    "pubsub_patterns": ("pubsub_patterns", "Patterns with subscribers."),
    "pubsubshard_channels": ("pubsubshard_channels", "Shard channels with subscribers."),
    "latest_fork_usec": ("latest_fork_seconds", "Duration of the latest fork, in seconds."),
    "tracking_total_keys": ("tracking_total_keys", "Keys that are tracked for client-side caching."),
    "tracking_total_items": ("tracking_total_items", "Items that are tracked: clients of each key."),
    "tracking_total_prefixes": ("tracking_total_prefixes", "Prefixes that are tracked in broadcast mode."),
    "instantaneous_eventloop_cycles_per_sec": (
        "instantaneous_eventloop_cycles_per_sec",
        "Cycles of the event loop a second, of late.",
    ),
    "instantaneous_eventloop_duration_usec": (
        "instantaneous_eventloop_duration_usec",
        "Microseconds of a cycle of the event loop, of late.",
    ),
    # Replication
    "connected_slaves": ("connected_slaves", "Replicas that are connected."),
    "repl_backlog_size": ("replication_backlog_bytes", "Size of the replication backlog, in bytes."),
    "repl_backlog_active": ("repl_backlog_is_active", "Whether there is a replication backlog."),
    "repl_backlog_first_byte_offset": ("repl_backlog_first_byte_offset", "Offset that the backlog begins with."),
    "repl_backlog_histlen": ("repl_backlog_history_bytes", "Bytes of data in the replication backlog."),
    "master_repl_offset": ("master_repl_offset", "Replication offset of the server."),
    "second_repl_offset": ("second_repl_offset", "Offset up to which the second replication id is accepted."),
    "slave_expires_tracked_keys": ("slave_expires_tracked_keys", "Keys with an expiry written to this replica."),
    "slave_priority": ("slave_priority", "Priority of the replica in a failover."),
    "sync_full": ("replica_resyncs_full", "Full resynchronizations with replicas."),
    "sync_partial_ok": ("replica_partial_resync_accepted", "Partial resynchronizations that were accepted."),
    "sync_partial_err": ("replica_partial_resync_denied", "Partial resynchronizations that were denied."),
    # Cluster
    "cluster_stats_messages_sent": ("cluster_messages_sent_total", "Messages sent over the cluster bus."),
    "cluster_stats_messages_received": ("cluster_messages_received_total", "Messages received over the cluster bus."),
    # KeyDB
    "server_threads": ("server_threads_total", "Threads of a KeyDB server."),
    "long_lock_waits": ("long_lock_waits_total", "Long waits for a lock in a KeyDB server."),
    "current_client_thread": ("current_client_thread", "Thread of a KeyDB server that serves this client."),
}

_COUNTERS = {
    "total_connections_received": ("connections_received_total", "Connections that were accepted."),
    "total_commands_processed": ("commands_processed_total", "Commands that were processed."),
    "rejected_connections": ("rejected_connections_total", "Connections refused because of the limit on clients."),
    "total_net_input_bytes": ("net_input_bytes_total", "Bytes read from the network."),
    "total_net_output_bytes": ("net_output_bytes_total", "Bytes written to the network."),
    "total_net_repl_input_bytes": ("net_repl_input_bytes_total", "Bytes read for replication."),
    "total_net_repl_output_bytes": ("net_repl_output_bytes_total", "Bytes written for replication."),
    "expired_subkeys": ("expired_subkeys_total", "Fields of hashes that expired."),
    "expired_keys": ("expired_keys_total", "Keys that expired."),
    "expired_time_cap_reached_count": (
        "expired_time_cap_reached_total",
        "How often the search for expired keys ended at its time limit.",
    ),
    "expire_cycle_cpu_milliseconds": (
        "expire_cycle_cpu_time_ms_total",
        "Milliseconds of CPU time spent on the search for expired keys.",
    ),
    "evicted_keys": ("evicted_keys_total", "Keys evicted because memory was at its limit."),
    "evicted_clients": ("evicted_clients_total", "Clients disconnected because of their memory."),
    "evicted_scripts": ("evicted_scripts_total", "EVAL scripts that were evicted."),
    "total_eviction_exceeded_time": (
        "eviction_exceeded_time_ms_total",
        "Milliseconds for which memory was over its limit.",
    ),
    "keyspace_hits": ("keyspace_hits_total", "Lookups of keys that found one."),
    "keyspace_misses": ("keyspace_misses_total", "Lookups of keys that found none."),
    "eventloop_cycles": ("eventloop_cycles_total", "Cycles of the event loop."),
    "eventloop_duration_sum": (
        "eventloop_duration_sum_usec_total",
        "Microseconds spent in the event loop.",
    ),
    "eventloop_duration_cmd_sum": (
        "eventloop_duration_cmd_sum_usec_total",
        "Microseconds spent on commands.",
    ),
    "used_cpu_sys": ("cpu_sys_seconds_total", "CPU time of the server in the kernel, in seconds."),
    "used_cpu_user": ("cpu_user_seconds_total", "CPU time of the server in user mode, in seconds."),
    "used_cpu_sys_children": ("cpu_sys_children_seconds_total", "CPU time of its children in the kernel, in seconds."),
    "used_cpu_user_children": ("cpu_user_children_seconds_total", "CPU time of its children in user mode, in seconds."),
    "used_cpu_sys_main_thread": (
        "cpu_sys_main_thread_seconds_total",
        "CPU time of the main thread in the kernel, in seconds.",
    ),
    "used_cpu_user_main_thread": (
        "cpu_user_main_thread_seconds_total",
        "CPU time of the main thread in user mode, in seconds.",
    ),
    "used_active_time_main_thread": (
        "active_time_main_thread_seconds_total",
        "Time for which the main thread was busy, in seconds.",
    ),
    "unexpected_error_replies": ("unexpected_error_replies", "Unexpected errors, as from a replica's stream."),
    "total_error_replies": ("total_error_replies", "Replies that were errors."),
    "dump_payload_sanitizations": ("dump_payload_sanitizations", "Deep checks of dumped values."),
    "total_reads_processed": ("total_reads_processed", "Reads that were processed."),
    "total_writes_processed": ("total_writes_processed", "Writes that were processed."),
    "io_threaded_reads_processed": ("io_threaded_reads_processed", "Reads by I/O threads."),
    "io_threaded_writes_processed": ("io_threaded_writes_processed", "Writes by I/O threads."),
    "client_query_buffer_limit_disconnections": (
        "client_query_buffer_limit_disconnections_total",
        "Clients disconnected at the limit of their query buffer.",
    ),
    "client_output_buffer_limit_disconnections": (
        "client_output_buffer_limit_disconnections_total",
        "Clients disconnected at the limit of their output buffer.",
    ),
    "reply_buffer_shrinks": ("reply_buffer_shrinks_total", "Output buffers that were made smaller."),
    "reply_buffer_expands": ("reply_buffer_expands_total", "Output buffers that were made larger."),
    "acl_access_denied_auth": ("acl_access_denied_auth_total", "Logins that were denied."),
    "acl_access_denied_cmd": ("acl_access_denied_cmd_total", "Commands that an ACL denied."),
    "acl_access_denied_key": ("acl_access_denied_key_total", "Commands denied because of their keys."),
    "acl_access_denied_channel": ("acl_access_denied_channel_total", "Commands denied because of their channels."),
    # KeyDB
    "cached_keys": ("cached_keys_total", "Keys in a KeyDB server's cache."),
    "storage_provider_read_hits": ("storage_provider_read_hits", "Reads that KeyDB's storage had the key for."),
    "storage_provider_read_misses": ("storage_provider_read_misses", "Reads that KeyDB's storage had no key for."),
}

#: The metric of each field.
FIELDS: dict[str, Metric] = {
    **{field: Gauge(f"redis_{name}", help) for field, (name, help) in _GAUGES.items()},
    **{field: Counter(f"redis_{name}", help) for field, (name, help) in _COUNTERS.items()},
}

#: How many of a field's unit are one of its metric's, where that differs.
DIVISORS = {"latest_fork_usec": 1e6}
