"""The metrics that the application library exports by itself, declared once for the library and for the catalogue."""

from typing import Literal, NamedTuple


class Declared(NamedTuple):
    """A metric of the library, without the label `service`, which the agent adds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    #: How the values of several processes are combined, for gauges: see `deckwatch.sdk.instruments.GaugeMode`.
    mode: Literal["sum", "max", "min", "last", "live"] = "sum"
    max_series: int = 1000


# The label is `job_name` because Prometheus gives `job` to the scrape job.
_JOB = ("job_name",)
JOB_IN_PROGRESS = Declared("job_in_progress", "gauge", "Number of runs of the job that are in progress.", _JOB)
JOB_ITEMS = Declared("job_items", "gauge", "Number of items that the last run has to process.", _JOB, mode="last")
JOB_ITEMS_DONE = Declared(
    "job_items_done_total", "counter", "Items that the job has processed, by outcome.", ("job_name", "outcome")
)
JOB_RUNS = Declared("job_runs_total", "counter", "Runs that have ended, by outcome.", ("job_name", "outcome"))
JOB_LAST_DURATION = Declared(
    "job_last_duration_seconds", "gauge", "Duration of the last run that has ended, in seconds.", _JOB, mode="last"
)
JOB_LAST_START = Declared(
    "job_last_start_timestamp_seconds", "gauge", "Unix time at which the last run started.", _JOB, mode="last"
)
JOB_LAST_PROGRESS = Declared(
    "job_last_progress_timestamp_seconds",
    "gauge",
    "Unix time at which a run last started or processed an item.",
    _JOB,
    mode="last",
)
JOB_LAST_SUCCESS = Declared(
    "job_last_success_timestamp_seconds", "gauge", "Unix time at which a run last succeeded.", _JOB, mode="last"
)
JOB_LAST_FAILURE = Declared(
    "job_last_failure_timestamp_seconds", "gauge", "Unix time at which a run last failed.", _JOB, mode="last"
)
JOB_INTERVAL = Declared(
    "job_expected_interval_seconds",
    "gauge",
    "Longest expected time between two successful runs, in seconds; 0 if none is expected.",
    _JOB,
    mode="last",
)

_ROUTE = ("method", "route")
_SIZES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
HTTP_REQUESTS = Declared(
    "http_requests_total", "counter", "Number of HTTP requests that have ended.", (*_ROUTE, "status")
)
HTTP_DURATION = Declared(
    "http_request_duration_seconds",
    "histogram",
    "Time from the start of a request to the end of its response, in seconds.",
    (*_ROUTE, "status"),
)
HTTP_IN_PROGRESS = Declared(
    "http_requests_in_progress", "gauge", "Number of HTTP requests in progress.", ("method",), mode="live"
)
HTTP_REQUEST_SIZE = Declared(
    "http_request_size_bytes", "histogram", "Size of request bodies, in bytes.", _ROUTE, buckets=_SIZES
)
HTTP_RESPONSE_SIZE = Declared(
    "http_response_size_bytes", "histogram", "Size of response bodies as sent, in bytes.", _ROUTE, buckets=_SIZES
)
HTTP_DISCONNECTS = Declared(
    "http_client_disconnects_total",
    "counter",
    "Number of requests that the client ended before the response was complete.",
    _ROUTE,
)
HTTP_ERRORS = Declared(
    "http_errors_total",
    "counter",
    "Number of unhandled exceptions in requests, by exception type and fingerprint of the place where it was raised.",
    ("type", "fingerprint"),
    max_series=100,
)

APP_EVENTS = Declared("app_events_total", "counter", "Events of the application.", ("event", "category"))
LOG_LINES_DROPPED = Declared(
    "app_log_lines_dropped_total", "counter", "Log lines that the application could not write, by reason.", ("reason",)
)

_CHECK = ("check", "critical")
HEALTH_SUCCESS = Declared(
    "health_check_success", "gauge", "Whether the last run of the health check succeeded (1).", _CHECK, mode="last"
)
HEALTH_DURATION = Declared(
    "health_check_duration_seconds",
    "gauge",
    "Duration of the last run of the health check, in seconds.",
    _CHECK,
    mode="last",
)
HEALTH_LAST_RUN = Declared(
    "health_check_last_run_timestamp_seconds",
    "gauge",
    "Unix time at which the health check last ran.",
    _CHECK,
    mode="last",
)

# Buckets from 5 ms to an hour.
_TASK_TIMES = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
WORKER_TASK_DURATION = Declared(
    "worker_task_duration_seconds",
    "histogram",
    "Duration of tasks in workers, in seconds, by outcome.",
    ("task", "queue", "outcome"),
    buckets=_TASK_TIMES,
)
WORKER_TASK_WAIT = Declared(
    "worker_task_wait_seconds",
    "histogram",
    "Time from when a task is due until a worker starts it, in seconds.",
    ("task", "queue"),
    buckets=_TASK_TIMES,
)
WORKER_TASKS_IN_PROGRESS = Declared(
    "worker_tasks_in_progress", "gauge", "Number of tasks that workers are running.", ("task", "queue"), mode="live"
)

# OpenTelemetry's names for connection pools of databases, and for their labels.
_POOL = ("db_client_connection_pool_name",)
POOL_CONNECTIONS = Declared(
    "db_client_connection_count",
    "gauge",
    "Number of connections of the pool, by state: used or idle.",
    (*_POOL, "db_client_connection_state"),
    mode="live",
)
POOL_MAX = Declared(
    "db_client_connection_max", "gauge", "Largest number of connections that the pool allows.", _POOL, mode="live"
)
POOL_PENDING = Declared(
    "db_client_connection_pending_requests",
    "gauge",
    "Number of requests that wait for a connection of the pool.",
    _POOL,
    mode="live",
)
POOL_TIMEOUTS = Declared(
    "db_client_connection_timeouts_total",
    "counter",
    "Number of requests that got no connection because the pool was exhausted.",
    _POOL,
)
POOL_WAIT = Declared(
    "db_client_connection_wait_time_seconds",
    "histogram",
    "Time to get a connection from the pool, in seconds.",
    _POOL,
    buckets=(0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

_CACHE = ("cache", "category")
CACHE_HITS = Declared("cache_hits_total", "counter", "Lookups that found a value in the cache.", _CACHE, max_series=200)
CACHE_MISSES = Declared(
    "cache_misses_total", "counter", "Lookups that found no value in the cache.", _CACHE, max_series=200
)
CACHE_DURATION = Declared(
    "cache_operation_duration_seconds",
    "histogram",
    "Duration of operations of the cache, in seconds.",
    (*_CACHE, "operation"),
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
    max_series=200,
)
CACHE_ERRORS = Declared(
    "cache_errors_total", "counter", "Operations of the cache that raised an exception.", ("cache", "operation")
)
CACHE_ENTRIES = Declared(
    "cache_entries", "gauge", "Number of entries in the cache.", _CACHE, mode="live", max_series=200
)
CACHE_MAX_ENTRIES = Declared(
    "cache_max_entries", "gauge", "Largest number of entries that the cache holds.", ("cache",), mode="live"
)

_BREAKER = ("breaker",)
BREAKER_STATE = Declared(
    "circuit_breaker_state",
    "gauge",
    "Number of circuit breakers of this name in the state: closed, open or half_open.",
    ("breaker", "state"),
    mode="live",
)
BREAKER_CHANGES = Declared(
    "circuit_breaker_state_changes_total",
    "counter",
    "Changes of the circuit breaker to the state.",
    ("breaker", "state"),
)
BREAKER_FAILURES = Declared(
    "circuit_breaker_failures_total", "counter", "Calls that failed, as the circuit breaker counts them.", _BREAKER
)
BREAKER_LAST_FAILURE = Declared(
    "circuit_breaker_last_failure_timestamp_seconds",
    "gauge",
    "Unix time at which a call last failed.",
    _BREAKER,
    mode="max",
)

_RETRY = ("operation",)
RETRY_ATTEMPTS = Declared(
    "retry_attempts_total", "counter", "Attempts of the operation, including the first ones.", _RETRY
)
RETRY_REPEATED = Declared(
    "retry_repeated_attempts_total", "counter", "Attempts of the operation after a failed attempt.", _RETRY
)
RETRY_GIVEUPS = Declared("retry_giveups_total", "counter", "Operations that failed after their last attempt.", _RETRY)

# Calls that OpenTelemetry's instrumentations measure, with OpenTelemetry's names. They take from 0.1 ms to a minute.
_CALL_TIMES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_MESSAGE = ("messaging_system", "messaging_operation_name", "messaging_destination_name", "error_type")
DB_DURATION = Declared(
    "db_client_operation_duration_seconds",
    "histogram",
    "Duration of operations of a database as the application sees it, in seconds.",
    ("db_system_name", "db_operation_name", "db_namespace", "error_type"),
    buckets=_CALL_TIMES,
    max_series=500,
)
HTTP_CLIENT_DURATION = Declared(
    "http_client_request_duration_seconds",
    "histogram",
    "Duration of HTTP requests that the application sends, in seconds.",
    ("http_request_method", "server_address", "http_response_status_code", "error_type"),
    buckets=_CALL_TIMES,
    max_series=500,
)
MESSAGE_SENT = Declared(
    "messaging_client_operation_duration_seconds",
    "histogram",
    "Duration of sending messages, in seconds.",
    _MESSAGE,
    buckets=_CALL_TIMES,
    max_series=200,
)
MESSAGE_PROCESSED = Declared(
    "messaging_process_duration_seconds",
    "histogram",
    "Duration of processing messages, in seconds.",
    _MESSAGE,
    buckets=_TASK_TIMES,
    max_series=200,
)

_GENERATION = ("generation",)
GC_COLLECTIONS = Declared("python_gc_collections_total", "counter", "Number of garbage collections.", _GENERATION)
GC_COLLECTED = Declared(
    "python_gc_objects_collected_total", "counter", "Objects that garbage collections freed.", _GENERATION
)
GC_UNCOLLECTABLE = Declared(
    "python_gc_objects_uncollectable_total",
    "counter",
    "Objects that garbage collections found and could not free.",
    _GENERATION,
)
