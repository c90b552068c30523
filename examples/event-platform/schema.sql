CREATE TABLE projects (id serial PRIMARY KEY, name text NOT NULL);
INSERT INTO projects (name) SELECT 'project ' || n FROM generate_series(1, 200) n;
CREATE TABLE events (
    id bigserial PRIMARY KEY,
    source text NOT NULL,
    project int NOT NULL REFERENCES projects,
    created_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz
);
CREATE INDEX ON events (id) WHERE processed_at IS NULL;
GRANT SELECT ON events TO monitor;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO monitor;
