"""Loaded modules and, if `modules` is set, their statistics (`INFO EVERYTHING`).

RediSearch: https://redis.io/docs/latest/commands/info/#modules; Valkey: valkey-bloom, valkey-json and valkey-search.
Reading them can be expensive: RediSearch walks over all of its indexes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Malformed, Metric

from .values import assignments, measured

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deckwatch.exporter import Samples

INFO = Gauge(
    "redis_module_info", "Information about a loaded module.", ["name", "ver", "api", "filters", "usedby", "using"]
)

#: Fields that keep their name.
_GAUGES = re.findall(
    r"\w+",
    """
    search_number_of_indexes search_dialect_1 search_dialect_2 search_dialect_3 search_dialect_4 search_global_idle
    search_global_total search_number_of_active_indexes search_number_of_active_indexes_running_queries
    search_number_of_active_indexes_indexing search_total_active_write_threads search_total_num_docs_in_indexes
    search_global_idle_user search_global_idle_internal search_global_total_user search_global_total_internal
    search_gc_total_docs_not_collected search_gc_marked_deleted_vectors search_errors_indexing_failures
    bf_bloom_total_memory_bytes bf_bloom_num_objects bf_bloom_num_filters_across_objects
    bf_bloom_num_items_across_objects bf_bloom_capacity_across_objects json_total_memory_bytes json_num_documents
    search_used_memory_bytes search_number_of_attributes search_total_indexed_documents search_query_queue_size
    search_writer_queue_size search_string_interning_store_size search_vector_externing_hash_extern_errors
    search_vector_externing_num_lru_entries
    """,
)
_RENAMED_GAUGES = {
    "search_used_memory_indexes": "search_used_memory_indexes_bytes",
    "search_bytes_collected": "search_collected_bytes",
    "search_smallest_memory_index": "search_smallest_memory_index_bytes",
    "search_largest_memory_index": "search_largest_memory_index_bytes",
    "search_used_memory_vector_index": "search_used_memory_vector_index_bytes",
    "search_gc_bytes_collected": "search_gc_collected_bytes",
}
_COUNTERS = re.findall(
    r"\w+",
    """
    search_successful_requests_count search_failure_requests_count search_hybrid_requests_count
    search_inline_filtering_requests_count search_hnsw_add_exceptions_count search_hnsw_remove_exceptions_count
    search_hnsw_modify_exceptions_count search_hnsw_search_exceptions_count search_hnsw_create_exceptions_count
    search_vector_externing_entry_count
    """,
)
_RENAMED_COUNTERS = {
    "search_total_indexing_time": "search_indexing_time_ms_total",
    "search_total_cycles": "search_cycles_total",
    "search_total_ms_run": "search_run_ms_total",
    "search_gc_total_cycles": "search_gc_cycles_total",
    "search_gc_total_ms_run": "search_gc_run_ms_total",
    "search_total_queries_processed": "search_queries_processed_total",
    "search_total_query_commands": "search_query_commands_total",
    "search_total_query_execution_time_ms": "search_query_execution_time_ms_total",
    "search_total_active_queries": "search_active_queries_total",
    "bf_bloom_defrag_hits": "bf_bloom_defrag_hits_total",
    "bf_bloom_defrag_misses": "bf_bloom_defrag_misses_total",
    "search_worker_pool_suspend_cnt": "search_worker_pool_suspend_count",
    "search_writer_resumed_cnt": "search_writer_resumed_count",
    "search_reader_resumed_cnt": "search_reader_resumed_count",
    "search_writer_suspension_expired_cnt": "search_writer_suspension_expired_count",
    "search_rdb_load_success_cnt": "search_rdb_load_success_count",
    "search_rdb_load_failure_cnt": "search_rdb_load_failure_count",
    "search_rdb_save_success_cnt": "search_rdb_save_success_count",
    "search_rdb_save_failure_cnt": "search_rdb_save_failure_count",
    "search_vector_externing_generated_value_cnt": "search_vector_externing_generated_value_count",
    "search_vector_externing_lru_promote_cnt": "search_vector_externing_lru_promote_count",
    "search_vector_externing_deferred_entry_cnt": "search_vector_externing_deferred_entry_count",
}


def _help(field: str) -> str:
    module, _, what = field.partition("_")
    names = {"search": "the search module", "bf": "the Bloom filter module", "json": "the JSON module"}
    return f"Field {what} of the INFO section of {names[module]}."


#: The metric of each field.
FIELDS: dict[str, Metric] = {
    **{field: Gauge(f"redis_{field}", _help(field)) for field in _GAUGES},
    **{field: Gauge(f"redis_{name}", _help(field)) for field, name in _RENAMED_GAUGES.items()},
    **{field: Counter(f"redis_{field}", _help(field)) for field in _COUNTERS},
    **{field: Counter(f"redis_{name}", _help(field)) for field, name in _RENAMED_COUNTERS.items()},
}


def module_samples(modules: Sequence[str], fields: Mapping[str, str]) -> Samples:
    """The samples of each module and of the statistics in `fields`.

    A module is `name=search,ver=21005,api=1,filters=0,usedby=[a|b],using=[],options=[]`.
    """
    for module in modules:
        values = assignments(module)
        if values.get("name"):
            yield INFO(1, **{label: values.get(label, "") for label in INFO.labels})
        else:
            yield Malformed("INFO: module", module)
    for name, text in fields.items():
        if metric := FIELDS.get(name):
            yield from measured(metric, f"INFO: {name}", text)
