"""The table of events."""

import os

from psycopg_pool import ConnectionPool

pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=1, max_size=5, open=False, timeout=5)


def connection():
    """A connection of the pool, which opens with the first use: after Celery has forked."""
    pool.open()
    return pool.connection()
