"""Deckwatch's Grafana dashboards, as code: `python -m deckwatch_dashboards` writes their JSON.

A module for each dashboard is a list of panels; `shapes` has the panels' shapes, `frame` what surrounds them.
"""

from __future__ import annotations

from . import agent, host, logs, overview, postgres, processes, redis, slow_queries
from .frame import Dashboard

DASHBOARDS: tuple[Dashboard, ...] = (
    overview.DASHBOARD,
    host.DASHBOARD,
    processes.DASHBOARD,
    redis.DASHBOARD,
    postgres.DASHBOARD,
    slow_queries.DASHBOARD,
    logs.DASHBOARD,
    agent.DASHBOARD,
)
