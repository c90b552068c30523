#!/bin/sh
# Run once by the postgres image, in an empty database: the shop's role, the agent's, and what the agent reads.
set -eu
psql -v ON_ERROR_STOP=1 -v app="$(cat /run/demo/app)" -v monitor="$(cat /run/demo/monitor)" \
    --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB" <<'SQL'
CREATE EXTENSION pg_stat_statements;
CREATE ROLE app LOGIN PASSWORD :'app';
GRANT CREATE ON SCHEMA public TO app;
CREATE ROLE monitor LOGIN PASSWORD :'monitor' CONNECTION LIMIT 5;
GRANT pg_monitor TO monitor;
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON SEQUENCES TO monitor;
SQL
