"""Deckwatch's Grafana dashboards as code: `python -m deckwatch_dashboards` writes their JSON.

Each dashboard is a module with a list of panels. `panels` and `log_panels` define the kinds of panels, `dashboard` the
variables, links and annotations, `query` the queries.
"""

from __future__ import annotations

from . import (
    agent,
    application,
    business,
    celery,
    dependencies,
    endpoints,
    host,
    jobs,
    logs,
    overview,
    pgbouncer,
    postgres,
    processes,
    queues,
    redis,
    slow_queries,
)
from .dashboard import Dashboard

DASHBOARDS: tuple[Dashboard, ...] = (
    overview.DASHBOARD,
    host.DASHBOARD,
    processes.DASHBOARD,
    redis.DASHBOARD,
    postgres.DASHBOARD,
    pgbouncer.DASHBOARD,
    slow_queries.DASHBOARD,
    queues.DASHBOARD,
    celery.DASHBOARD,
    application.DASHBOARD,
    dependencies.DASHBOARD,
    jobs.DASHBOARD,
    business.DASHBOARD,
    endpoints.DASHBOARD,
    logs.DASHBOARD,
    agent.DASHBOARD,
)
