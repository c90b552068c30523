"""What the application depends on: connection pools, caches, circuit breakers and retries of other libraries."""
