"""Selectors, labels and the variable that the PostgreSQL and Slow queries dashboards share."""

from __future__ import annotations

from .dashboard import Variable
from .query import BY_TARGET, TARGET

#: Matchers for the chosen databases. Background processes have none.
DB = '@target, datname=~"$datname", datname!~"|template.*"'
BY_DATABASE = f"{BY_TARGET}, datname"
WITH_DATABASE = f"{TARGET} {{{{datname}}}}"

DATABASE_CHOICE = Variable("datname", "Database", "pg_database_size_bytes{@target}, datname", "Databases.", ".*")


def activity(metric: str, matchers: str) -> str:
    """A metric of pg_stat_activity without replication connections, where `detailed_activity` tells them apart."""
    return f'{metric}{{{matchers}, backend_type!="walsender"}}'
